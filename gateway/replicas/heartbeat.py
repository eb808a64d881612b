"""The worker's sign of life: what it has applied and what it still serves, every second.

It is also how a worker learns how many there are, and so what its share of the replicas is.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.replicas.in_flight import InFlight
from gateway.store.database import StoreUnavailable
from gateway.store.fleet import Fleet, WorkerRow
from gateway.store.placement import Placements
from gateway.telemetry import Telemetry

INTERVAL_S = 1.0
ALIVE_WITHIN_S = 5.0
"""A worker that was heard of so lately counts as alive; clocks of different machines may differ by less."""

USAGE_EVERY_S = 2.0
"""How often the usage of versions is reported, on which placement rests."""

_log = logging.getLogger("turnout.heartbeat")


class Heartbeat:
    """Writes one row for this worker, over and over."""

    def __init__(
        self,
        fleet: Fleet,
        worker_id: str,
        *,
        applied_generation: Callable[[], int],
        in_flight: InFlight,
        telemetry: Telemetry,
        on_alive: Callable[[int], None],
        placements: Placements | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`on_alive` hears after each beat how many workers live, this one included.

        `placements` gets the usage of versions now and then.
        """
        self._fleet = fleet
        self._worker_id = worker_id
        self._applied_generation = applied_generation
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._on_alive = on_alive
        self._interval_s = interval_s
        self._placements = placements
        self._usage_at = float("-inf")

    async def run(self) -> None:
        """Beat until cancelled. A store that is down is counted and tried again."""
        while True:
            await self.beat()
            await asyncio.sleep(self._interval_s)

    async def beat(self) -> None:
        """Write the row once."""
        # Generation and counts are taken in one step of the loop, so that they belong together.
        row = WorkerRow(self._worker_id, self._applied_generation(), self._in_flight.counts(), time.time())
        try:
            self._on_alive(await asyncio.to_thread(self._beat, row))
            await self._report_usage()
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("heartbeat").inc()
            _log.warning("the heartbeat was not stored: %s", error)

    async def _report_usage(self) -> None:
        now = time.monotonic()
        if self._placements is None or now - self._usage_at < USAGE_EVERY_S:
            return
        self._usage_at = now
        usage = {label: (used.count, used.used_at) for label, used in self._in_flight.meter.report().items()}
        if usage:
            await asyncio.to_thread(self._placements.report_usage, self._worker_id, usage, at=time.time())

    def _beat(self, row: WorkerRow) -> int:
        self._fleet.beat(row)
        horizon = time.time() - ALIVE_WITHIN_S
        return sum(worker.seen_at >= horizon for worker in self._fleet.workers())

    async def stop(self) -> None:
        """Take the worker off the list."""
        try:
            await asyncio.to_thread(self._fleet.forget_worker, self._worker_id)
        except StoreUnavailable as error:
            _log.warning("the worker could not sign off: %s", error)
