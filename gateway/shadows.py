"""Shadow traffic: requests answered once more by another version, after their clients have their answers.

A replay never costs a client anything that it can feel: it takes only places that are free anyway, counts
against a budget of its own, is sent once, and is dropped and counted whenever that is not possible. What
becomes of it reaches no circuit breaker, no retry budget and no experiment; both answers are stored side by
side. A shadow under which a replica dies rests.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from gateway.core.refs import BASE
from gateway.core.requests import RequestRow
from gateway.errors import TurnoutError
from gateway.recording import Recorder, clean_text
from gateway.relay import MAX_ANSWER_BYTES, Call
from gateway.replicas.health import HealthChecks, Verdict
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import Lease, Pool
from gateway.replicas.quarantine import Quarantine
from gateway.replicas.replica import Replica
from gateway.routing.table import RoutingTable
from gateway.store.database import StoreUnavailable
from gateway.store.shadows import Pair, ShadowPairs
from gateway.telemetry import Telemetry
from gateway.upstream.client import Client
from gateway.upstream.faults import ConnectFailed, ConnectionLost, TimedOut, UpstreamFault
from gateway.upstream.reading import Reading, WrongModel, read_whole
from gateway.upstream.shapes import Shape

MAX_REFUSAL_BYTES = 64 * 1024
REST_S = 300.0
"""How long a version stays without replays after a replica has died under one."""

BURST_S = 10.0
"""The budget of so many seconds may be spent at once."""

_STATUS = {ConnectFailed: (503, "replica_unreachable"), TimedOut: (504, "upstream_timeout")}
_log = logging.getLogger("turnout.shadows")


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """What replays may take, in all workers together; `max_wait_s` is how old one may be when it is sent."""

    max_in_flight: int
    max_queue: int
    max_wait_s: float
    per_minute: float
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that a client has got the answer to: all that its replay needs.

    `row` is as it was recorded; its texts are here, cut and not redacted yet. `offered_at` is monotonic.
    """

    path: str
    payload: bytes
    shape: Shape
    shadow: str
    row: RequestRow
    prompt: str | None
    answer: str | None
    redacted: bool
    offered_at: float


class Allowance:
    """A bucket that time fills: so many a minute, and `BURST_S` worth of them at once, one at least."""

    def __init__(self, per_minute: float, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._per_s = self._most = 0.0
        self.resize(per_minute)
        self._left = self._most

    def resize(self, per_minute: float) -> None:
        """Take another rate."""
        self._per_s = per_minute / 60
        self._most = max(1.0, self._per_s * BURST_S)

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = self._clock()
        self._left = min(self._most, self._left + self._per_s * (now - self._at))
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Shadows:
    """The queue of replays and those that run. Belongs to one event loop."""

    def __init__(
        self,
        client: Client,
        pool: Pool,
        in_flight: InFlight,
        telemetry: Telemetry,
        *,
        health: HealthChecks,
        quarantine: Quarantine,
        recorder: Recorder,
        pairs: ShadowPairs,
        table: Callable[[], RoutingTable],
        new_id: Callable[[], str],
        limits: ShadowLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._pool = pool
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._health = health
        self._quarantine = quarantine
        self._recorder = recorder
        self._pairs = pairs
        self._table = table
        self._new_id = new_id
        self._limits = limits
        self._clock = clock
        self._at_once = limits.max_in_flight
        self._allowance = Allowance(limits.per_minute, clock=clock)
        self._queue: deque[Sample] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._resting_until: dict[str, float] = {}
        self._closed = False

    @property
    def busy(self) -> int:
        """How many replays wait or run."""
        return len(self._queue) + len(self._running)

    def share(self, workers: int) -> None:
        """Take this worker's share of the limits."""
        self._at_once = max(1, self._limits.max_in_flight // workers) if self._limits.max_in_flight else 0
        self._allowance.resize(self._limits.per_minute / workers)

    def offer(self, call: Call) -> None:
        """Take a request that has ended, for its shadow. Never waits and never fails.

        Its texts were kept for this alone where the route does not capture them; they leave the row here.
        """
        row = call.row
        if row.status == 200 and not row.internal and not self._closed:
            self._take(call)
        if not call.target.capture:
            row.prompt = row.answer = None

    async def aclose(self) -> None:
        """Drop what waits and break off what runs."""
        self._closed = True
        for sample in self._queue:
            self._count(sample.shadow, "shutdown")
        self._queue.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- taking -------------------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        shadow = call.target.shadow or BASE
        now = self._clock()
        refusal = self._refusal(shadow, call, now)
        if refusal is not None:
            self._count(shadow, refusal)
            return
        self._queue.append(
            Sample(
                path=call.path,
                payload=call.payload,
                shape=call.shape,
                shadow=shadow,
                row=call.row,
                prompt=call.row.prompt,
                answer=call.row.answer,
                redacted=call.target.redact,
                offered_at=now,
            )
        )
        if len(self._running) < self._at_once:
            task = asyncio.get_running_loop().create_task(self._work(), name="turnout-shadow")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _refusal(self, shadow: str, call: Call, now: float) -> str | None:
        """Return why a request is not replayed, as `turnout_shadow_requests_total` names it."""
        if not self._at_once:
            return "off"
        if self._resting(shadow, now):
            return "resting"
        if len(call.payload) > self._limits.max_body_bytes:
            return "too_large"
        if len(self._queue) >= self._limits.max_queue:
            return "queue_full"
        return None if self._allowance.take() else "over_budget"

    def _resting(self, shadow: str, now: float) -> bool:
        return bool(self._resting_until) and self._resting_until.get(shadow, 0.0) > now

    def _count(self, shadow: str, outcome: str) -> None:
        self._telemetry.shadow_requests.labels(self._telemetry.adapter_label(shadow), outcome).inc()

    async def _work(self) -> None:
        while self._queue:
            sample = self._queue.popleft()
            try:
                outcome = await self._replay(sample)
            except asyncio.CancelledError:
                self._count(sample.shadow, "shutdown")
                raise
            except Exception:  # noqa: BLE001 - a background loop: counted, logged, and it goes on
                self._telemetry.background_errors.labels("shadow").inc()
                _log.exception("the replay of %s failed", sample.row.id)
                outcome = "failed"
            self._count(sample.shadow, outcome)

    # --- one replay ---------------------------------------------------------------------------------------

    async def _replay(self, sample: Sample) -> str:
        """Replay one sample if that is still wanted and possible; return what came of it."""
        now = self._clock()
        if now - sample.offered_at > self._limits.max_wait_s:
            return "late"
        if self._resting(sample.shadow, now):
            return "resting"
        table = self._table()
        if not _wanted(table, sample):
            return "ended"
        row = _row(sample, self._new_id(), table.generation)
        model = table.base_model if sample.shadow == BASE else sample.shadow
        payload = replayed(sample.payload, engine_model=model, request_id=row.id)
        if self._refused(sample, payload):
            return "quarantined"
        # Counted even when there is no place: that it is asked for is what brings the version one.
        self._in_flight.enter(sample.shadow)
        try:
            lease = self._pool.spare(sample.shadow)
            if lease is None:
                return "no_place"
            reading = Reading(model, text_limit=self._recorder.text_limit, shape=sample.shape)
            try:
                await self._send(sample, payload, lease, row, reading)
            finally:
                lease.release()
        finally:
            self._in_flight.leave(sample.shadow)
        return await self._keep(sample, row, reading)

    def _refused(self, sample: Sample, payload: bytes) -> bool:
        if self._quarantine.empty:
            return False
        try:
            self._quarantine.check(sample.path, sample.shadow, payload)
        except TurnoutError:
            return True
        return False

    async def _send(
        self, sample: Sample, payload: bytes, lease: Lease, row: RequestRow, reading: Reading
    ) -> None:
        """Send the replay, once. The row says what came of it."""
        replica = lease.replica
        row.replica, row.attempts = replica.id, 1
        began = self._clock()
        fault: Exception | None = None
        try:
            row.status, row.error_code = await self._ask(sample, payload, replica, row.id, reading)
        except WrongModel as wrong:
            row.status, row.error_code = 502, "wrong_model"
            self._telemetry.wrong_model.labels(self._telemetry.adapter_label(sample.shadow)).inc()
            _log.error("replica %s, replay of %s: %s", replica.id, sample.row.id, wrong)
        except (UpstreamFault, ValueError) as error:
            fault = error
            row.status, row.error_code = _STATUS.get(type(error), (502, "upstream_failed"))
        row.latency_ms = (self._clock() - began) * 1000
        row.answer_id, row.finish_reason = reading.answer_id, reading.finish_reason
        row.prompt_tokens, row.completion_tokens = reading.prompt_tokens, reading.completion_tokens
        if row.status >= 500 and not isinstance(fault, ConnectFailed):
            await self._inquire(sample, payload, lease, lost=isinstance(fault, ConnectionLost))

    async def _ask(
        self, sample: Sample, payload: bytes, replica: Replica, request_id: str, reading: Reading
    ) -> tuple[int, str | None]:
        """Return the status of the engine's answer, and an error's code.

        Raises:
            UpstreamFault: there is no answer.
            WrongModel: another version gave it.
            ValueError: it is none.
        """
        response = await self._client.post(replica.origin, sample.path, payload, request_id=request_id)
        try:
            if response.status != 200:
                await response.read_all(MAX_REFUSAL_BYTES)
                return response.status, "refused"
            read_whole(await response.read_all(MAX_ANSWER_BYTES), reading)
        finally:
            response.close()
        return 200, None

    async def _inquire(self, sample: Sample, payload: bytes, lease: Lease, *, lost: bool) -> None:
        """Find out whether the replica died under the replay; then nobody sends it again, and it rests."""
        verdict = await self._health.look_now(lease.replica)
        if verdict is Verdict.WELL or (verdict is Verdict.SILENT and not lost):
            return
        self._pool.sick(lease.replica)
        self._resting_until[sample.shadow] = self._clock() + REST_S
        self._telemetry.replica_deaths.labels(lease.replica.id).inc()
        self._quarantine.add(sample.path, sample.shadow, payload, replica=lease.replica.id)
        _log.error(
            "replica %s died under a replay of %s to %s, which rests for %.0f s",
            lease.replica.id,
            sample.row.id,
            sample.shadow,
            REST_S,
        )

    async def _keep(self, sample: Sample, row: RequestRow, reading: Reading) -> str:
        """Record the replay and store both answers."""
        self._recorder.put(row)
        answer = reading.text if row.status == 200 and reading.text_limit else None
        try:
            await asyncio.to_thread(self._store, sample, row, answer)
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("shadow").inc()
            _log.warning("the answers to %s were not stored: %s", sample.row.id, error)
            return "not_stored"
        return "answered" if row.status == 200 else "failed"

    def _store(self, sample: Sample, row: RequestRow, answer: str | None) -> None:
        def clean(text: str | None) -> str | None:
            return clean_text(text, redacted=sample.redacted, max_chars=self._recorder.max_text_chars)

        first = sample.row
        self._pairs.add(
            Pair(
                id=first.id,
                shadow_id=row.id,
                at=first.at,
                endpoint=first.endpoint,
                route=first.route or "",
                adapter=first.adapter,
                shadow=sample.shadow,
                prompt=clean(sample.prompt),
                answer=clean(sample.answer),
                shadow_answer=clean(answer),
                shadow_status=row.status,
                shadow_error=row.error_code,
                finish_reason=first.finish_reason,
                shadow_finish_reason=row.finish_reason,
                completion_tokens=first.completion_tokens,
                shadow_completion_tokens=row.completion_tokens,
                latency_ms=first.latency_ms,
                shadow_latency_ms=row.latency_ms,
            )
        )


def replayed(payload: bytes, *, engine_model: str, request_id: str) -> bytes:
    """Return what the engine gets: the same request to another version, answered in one piece."""
    body = orjson.loads(payload)
    body["model"] = engine_model
    body.pop("stream_options", None)
    if "stream" in body:
        body["stream"] = False
    if "request_id" in body:
        body["request_id"] = f"resp_{request_id}"
    return orjson.dumps(body)


def _wanted(table: RoutingTable, sample: Sample) -> bool:
    """Whether the route still has this shadow, and the table is fresh enough to serve it."""
    entry = table.routes.get(sample.row.route or "")
    if entry is None or entry.shadow is None or entry.shadow.adapter != sample.shadow:
        return False
    return not (table.stale and sample.shadow in table.changing)


def _row(sample: Sample, request_id: str, generation: int) -> RequestRow:
    first = sample.row
    return RequestRow(
        request_id,
        time.time(),
        first.endpoint,
        key_id=first.key_id,
        tenant=first.tenant,
        requested_model=sample.shadow,
        route=first.route,
        adapter=sample.shadow,
        generation=generation,
        internal=True,
    )
