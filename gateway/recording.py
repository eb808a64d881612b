"""One row a request: a bounded queue on the event loop, batched writes in a thread.

Serving never waits for the store. While it is slow or down the queue fills; then rows are dropped, and
counted. What was captured of prompts and answers is redacted here, before it is written, in that thread, and
answers to requests for JSON are checked in it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from sqlalchemy.exc import DataError, IntegrityError

from gateway.core.redaction import redact
from gateway.core.requests import RequestRow
from gateway.core.structured import Expected
from gateway.store.database import StoreUnavailable
from gateway.store.requests import Requests
from gateway.store.tombstones import Guard
from gateway.telemetry import Telemetry

RETRY_S = 0.5
SETTLE_POLL_S = 0.01
FLUSH_TIMEOUT_S = 10.0
# Captured text is cut once before redaction, to bound the work, and once after, so that nothing that was to
# be redacted survives because the cut went through it.
CUT_MARGIN_CHARS = 512
MAX_WAITING_CHARS = 16 * 1024 * 1024
"""Answers that wait to be checked hold so much text at most; beyond it they are not checked."""

_log = logging.getLogger("turnout.recording")

_Queued = tuple[RequestRow, bool, Expected | None]


class Recorder:
    """The queue and its writer. `put` and `find` belong to the event loop."""

    def __init__(
        self,
        requests: Requests,
        telemetry: Telemetry,
        *,
        queue_size: int,
        batch_size: int,
        interval_s: float,
        max_text_chars: int,
        forgotten: Guard | None = None,
    ) -> None:
        """`forgotten` says which rows may not be written any more, because they are about somebody who is."""
        self._forgotten = forgotten
        self.interval_s = interval_s
        self.max_text_chars = max_text_chars
        self._requests = requests
        self._telemetry = telemetry
        self._queue_size = queue_size
        self._batch_size = batch_size
        self._queue: deque[_Queued] = deque()
        self._writing: list[_Queued] = []
        self._waiting_chars = 0
        self._done = 0
        self._full_batch = asyncio.Event()
        telemetry.record_queue.set_function(lambda: len(self._queue) + len(self._writing))

    @property
    def text_limit(self) -> int:
        """How many characters of a text are worth handing in."""
        return self.max_text_chars + CUT_MARGIN_CHARS if self.max_text_chars else 0

    def put(self, row: RequestRow, *, redacted: bool = True, expected: Expected | None = None) -> None:
        """Queue a row, or drop and count it when the queue is full.

        `redacted`: captured text is redacted. `expected` is what its answer is checked against.
        """
        if len(self._queue) + len(self._writing) >= self._queue_size:
            self._telemetry.records_dropped.inc()
            return
        if expected is not None:
            self._hold(row, expected)
        self._queue.append((row, redacted, expected))
        if len(self._queue) >= self._batch_size:
            self._full_batch.set()

    def _hold(self, row: RequestRow, expected: Expected) -> None:
        """Let a text wait until it is checked, if there is one and there is room for it."""
        chars = expected.chars
        if row.status != 200 or self._waiting_chars + chars > MAX_WAITING_CHARS:
            expected.drop()
        else:
            self._waiting_chars += chars

    def find(self, request_id: str) -> RequestRow | None:
        """Return a row that is not stored yet, by our id or by the answer's."""
        for row, _, _ in (*self._writing, *self._queue):
            if request_id in (row.id, row.answer_id):
                return row
        return None

    async def settle(self, timeout_s: float) -> bool:
        """Have what is queued now written at once, and return when it is; False when it was not in time."""
        last = self._done + len(self._writing) + len(self._queue)
        deadline = time.monotonic() + timeout_s
        self._full_batch.set()
        while self._done < last:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(SETTLE_POLL_S)
        return True

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self.interval_s):
                    await self._full_batch.wait()
            except TimeoutError:
                pass
            self._full_batch.clear()
            while self._queue or self._writing:
                if not await self._write_batch():
                    await asyncio.sleep(RETRY_S)
                    break

    async def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Write what is queued before the process ends; what can't be written in time counts as dropped."""
        deadline = time.monotonic() + timeout_s
        while (self._queue or self._writing) and time.monotonic() < deadline:
            if not await self._write_batch():
                await asyncio.sleep(min(RETRY_S, timeout_s / 10))
        lost = len(self._queue) + len(self._writing)
        if lost:
            self._telemetry.records_dropped.inc(lost)
            _log.error("%d request rows were lost: the store did not take them", lost)

    async def _write_batch(self) -> bool:
        """Write the oldest rows; False when the store did not take them and they stay queued."""
        while self._queue and len(self._writing) < self._batch_size:
            queued = self._queue.popleft()
            if queued[2] is not None:
                self._waiting_chars -= queued[2].chars
            self._writing.append(queued)
        # A cancelled wait leaves the thread running: the batch stays in `_writing`, and `flush` asks again.
        work = asyncio.ensure_future(asyncio.to_thread(self._write, tuple(self._writing)))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait((work,))
            if not work.cancelled() and work.exception() is None:
                self._wrote()
            raise
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("recording").inc()
            _log.warning("%d request rows wait: %s", len(self._writing), error)
            return False
        self._wrote()
        return True

    def _wrote(self) -> None:
        self._done += len(self._writing)
        self._writing = []

    def _write(self, batch: Sequence[_Queued]) -> None:
        rows = self._without_forgotten([self._clean(*queued) for queued in batch])
        if self._refused(rows) is not None:
            rows = [row for row in rows if self._stored_alone(row)]
        self._forget_again(rows)
        self._telemetry.recorded(rows)

    def _without_forgotten(self, rows: list[RequestRow]) -> list[RequestRow]:
        if self._forgotten is None:
            return rows
        try:
            refused = self._forgotten.refused(rows)
        except StoreUnavailable:  # they are looked at again once they are written
            return rows
        return [row for row in rows if not refused(row)]

    def _forget_again(self, rows: list[RequestRow]) -> None:
        """Remove what was written about somebody who was forgotten at the same moment."""
        if self._forgotten is None:
            return
        self._forgotten.remember((row.id, row.unit, row.at) for row in rows)
        try:
            gone = self._forgotten.gone()
            if gone:
                self._requests.remove(gone)
            self._forgotten.settled()
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("forgetting").inc()
            _log.warning("rows are not checked against who is forgotten: %s", error)

    def _stored_alone(self, row: RequestRow) -> bool:
        """Store one row, since a bad one must not hold up the others; whether it is there now."""
        refusal = self._refused([row])
        # A row whose id is there already was stored by an attempt whose end we did not hear of.
        if refusal is None or isinstance(refusal, IntegrityError):
            return True
        self._telemetry.records_dropped.inc()
        _log.error("the row of request %s was refused", row.id, exc_info=refusal)
        return False

    def _refused(self, rows: list[RequestRow]) -> BaseException | None:
        """Store rows; return why the database does not want them, None when it took them.

        Raises:
            StoreUnavailable: the database could not be asked.
        """
        try:
            self._requests.write(rows)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, IntegrityError | DataError):
                return error.__cause__
            raise
        except Exception as error:  # noqa: BLE001 - what a driver raises on odd values is anything
            return error
        return None

    def _clean(self, row: RequestRow, redacted: bool, expected: Expected | None) -> RequestRow:
        row.prompt = clean_text(row.prompt, redacted=redacted, max_chars=self.max_text_chars)
        row.answer = clean_text(row.answer, redacted=redacted, max_chars=self.max_text_chars)
        if expected is not None:
            row.schema_valid = expected.verdict(finish_reason=row.finish_reason)
        return row


def clean_text(text: str | None, *, redacted: bool, max_chars: int) -> str | None:
    """Return a captured text as it may be stored: redacted, and cut after that. PostgreSQL takes no NUL.

    A text that was cut when it was captured is `max_chars` long whatever redaction took from it, filled with
    dots: its length is how everything later knows that it is not whole.
    """
    if text is None:
        return None
    clean = (redact(text) if redacted else text).replace("\0", "")[:max_chars]
    return clean.ljust(max_chars, "…") if len(text) >= max_chars + CUT_MARGIN_CHARS else clean
