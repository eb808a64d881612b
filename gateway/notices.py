"""Events that the serving path raises: a bounded queue on the event loop, written to the store in a thread.

Every event makes each worker read the routing table again, so the same one is stored once a minute at most.
The metrics count them all. A wish for a proof goes the same way: its event is what the controller answers.
"""

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from gateway.core.refs import VersionRef
from gateway.store.attestations import Attestations
from gateway.store.database import StoreUnavailable
from gateway.store.events import Events
from gateway.telemetry import Telemetry

MOST_WAITING = 100
SAME_AFTER_S = 60.0
ACTOR = "gateway"
PROVE = "adapter.verify"
_RETRY_S = 0.5
_MOST_KNOWN = 1000
_log = logging.getLogger("turnout.notices")


@dataclass(frozen=True, slots=True)
class Notice:
    """One event to store; `subject` names what it is about."""

    action: str
    subject: str
    why: str
    after: Any = None


class Notices:
    """The queue and its writer. Belongs to one event loop."""

    def __init__(
        self,
        events: Events,
        attestations: Attestations,
        telemetry: Telemetry,
        *,
        same_after_s: float = SAME_AFTER_S,
    ) -> None:
        self._events = events
        self._attestations = attestations
        self._telemetry = telemetry
        self._same_after_s = same_after_s
        self._queue: deque[Notice] = deque()
        self._raised: dict[tuple[str, str], float] = {}
        self._some = asyncio.Event()

    def raise_event(self, notice: Notice, *, always: bool = False) -> None:
        """Queue an event; not when the queue is full, or the same was raised lately (unless `always`)."""
        now = time.monotonic()
        key = (notice.action, notice.subject)
        if not always and now < self._raised.get(key, 0.0):
            return
        if len(self._queue) >= MOST_WAITING:
            self._telemetry.background_errors.labels("notices").inc()
            return
        if len(self._raised) >= _MOST_KNOWN:
            self._raised = {known: until for known, until in self._raised.items() if until > now}
        if len(self._raised) < _MOST_KNOWN:
            self._raised[key] = now + self._same_after_s
        self._queue.append(notice)
        self._some.set()

    def prove(self, replica: str, label: str) -> None:
        """Have the controller prove a version that a request has registered again."""
        self.raise_event(Notice(PROVE, label, f"registered again on {replica}"), always=True)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._queue:
                if not await self._write():
                    await asyncio.sleep(_RETRY_S)

    async def flush(self) -> None:
        """Write what waits, each event once at most, before the process ends."""
        while self._queue and await self._write():
            pass

    async def _write(self) -> bool:
        """Write the oldest event; False when the store did not take it and it stays."""
        notice = self._queue[0]
        try:
            await asyncio.to_thread(self._store, notice)
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("notices").inc()
            _log.warning("%d events wait: %s", len(self._queue), error)
            return False
        self._queue.popleft()
        return True

    def _store(self, notice: Notice) -> None:
        if notice.action == PROVE and (ref := VersionRef.parse(notice.subject)) is not None:
            self._attestations.ask(ref, actor=ACTOR, why=notice.why)
            return
        self._events.add(
            actor=ACTOR, action=notice.action, subject=notice.subject, why=notice.why, after=notice.after
        )
