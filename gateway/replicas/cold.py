"""Brings a version that stands nowhere: asks the controller through the store, and waits until it is served.

The controller alone decides where, makes room, registers and attests; here requests wait. However many wait,
and at however many workers, there is one ask for each version. Waiting is bounded in time and number.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.refs import BASE, VersionRef
from gateway.errors import Overloaded, Unavailable
from gateway.replicas.pool import Pool
from gateway.store.database import StoreUnavailable
from gateway.store.placement import Placements
from gateway.telemetry import Telemetry

POLL_S = 0.02
ASK_EVERY_S = 0.5
ASK_STANDS_S = 5.0
"""An ask that is not renewed for so long is over."""

RETRY_AFTER_S = 2.0
_log = logging.getLogger("turnout.cold")


@dataclass(eq=False)
class _Ask:
    task: asyncio.Task[None] | None = None
    waiters: set[asyncio.Future[None]] = field(default_factory=set)


class ColdLoads:
    """Versions that are being brought, and who waits for them. Belongs to one event loop."""

    def __init__(
        self,
        placements: Placements,
        pool: Pool,
        telemetry: Telemetry,
        *,
        hurry: Callable[[int], None],
        timeout_s: float,
        max_waiting: int,
    ) -> None:
        """`hurry` hears +1 and -1 when a version begins and ends to be waited for."""
        self._placements = placements
        self._pool = pool
        self._telemetry = telemetry
        self._hurry = hurry
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._asks: dict[str, _Ask] = {}
        telemetry.cold_waiting.set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(ask.waiters) for ask in self._asks.values())

    async def bring(self, label: str, error: Unavailable) -> float:
        """Return when a replica serves `label`, with the seconds that took; `error` says why it could not.

        Raises:
            Unavailable: it can't be loaded, or was not within the time; nothing was sent to an engine.
            Overloaded: too many requests wait already.
        """
        if not self._pool.serves(BASE):  # no engine that could load it
            raise error
        if self.waiting >= self._max_waiting:
            raise Overloaded(
                "too many requests wait for adapters that are being loaded; try again in a moment",
                code="queue_full",
                retry_after_s=RETRY_AFTER_S,
            )
        # No asyncio.timeout: the caller need not be a task.
        loop = asyncio.get_running_loop()
        began = loop.time()
        ask = self._asks.get(label) or self._begin(label)
        waiter: asyncio.Future[None] = loop.create_future()
        ask.waiters.add(waiter)
        timer = loop.call_later(self._timeout_s, self._expire, label, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            ask.waiters.discard(waiter)
            if not ask.waiters and ask.task is not None:
                ask.task.cancel()
        return loop.time() - began

    def _expire(self, label: str, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            self._telemetry.cold_loads.labels("timeout").inc()
            waiter.set_exception(
                Unavailable(
                    f"{label!r} was not loaded within {self._timeout_s:g} s; try again in a moment",
                    code="cold_load_timeout",
                    retry_after_s=RETRY_AFTER_S,
                )
            )

    def _begin(self, label: str) -> _Ask:
        ask = self._asks[label] = _Ask()
        ask.task = asyncio.get_running_loop().create_task(self._bring(label, ask))
        self._hurry(1)
        ask.task.add_done_callback(lambda _: self._end(label, ask))
        return ask

    def _end(self, label: str, ask: _Ask) -> None:
        self._hurry(-1)
        if self._asks.get(label) is ask:
            del self._asks[label]
        for waiter in ask.waiters:
            if not waiter.done():  # only a fault of ours comes here
                waiter.set_exception(Unavailable(f"{label!r} could not be loaded", code="cold_load_failed"))

    async def _bring(self, label: str, ask: _Ask) -> None:
        ref = VersionRef.parse(label)
        asked_at = float("-inf")
        while not self._pool.serves(label):
            now = time.monotonic()
            if ref is not None and now - asked_at >= ASK_EVERY_S:
                asked_at = now
                if refusal := await self._ask(ref):
                    self._telemetry.cold_loads.labels("refused").inc()
                    self._release(
                        ask,
                        Unavailable(
                            f"{label!r} can't be served now: {refusal}",
                            code="adapter_failed",
                            retry_after_s=RETRY_AFTER_S,
                        ),
                    )
                    return
            await asyncio.sleep(POLL_S)
        self._telemetry.cold_loads.labels("loaded").inc()
        self._release(ask, None)

    async def _ask(self, ref: VersionRef) -> str | None:
        """Ask, or renew the ask; return why it can't be had if that is known."""
        try:
            known = await asyncio.to_thread(self._placements.ask, ref, stands_s=ASK_STANDS_S)
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("cold").inc()
            _log.warning("%s could not be asked for: %s", ref, error)
            return None
        return known.refusal

    def _release(self, ask: _Ask, error: Unavailable | None) -> None:
        for waiter in ask.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
