"""What `/metrics` shows of the store: drift, the loop, findings of experiments, the controller and the fleet.

It is read when metrics are scraped, at most every `every_s` seconds, and never for two scrapes at once.
"""

import asyncio
import time

from gateway.api import fleet_metrics
from gateway.api.drift_metrics import DriftMetrics, WatchMetrics
from gateway.api.experiment_metrics import MAX_ROUTES, ExperimentMetrics
from gateway.api.loop_metrics import LoopMetrics
from gateway.api.retention_metrics import RetentionMetrics
from gateway.routing.table import RoutingTable
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.drift import DriftRow
from gateway.store.findings import Finding
from gateway.store.loop_figures import LoopFigures
from gateway.store.loop_figures import read as read_loop
from gateway.store.watches import WatchRow
from gateway.telemetry import Telemetry

CACHE_S = 5.0


class StoreMetrics:
    """The collectors of one worker's registry. `counts`: whether it counts decisions on canaries."""

    def __init__(
        self,
        control: ControlStore,
        telemetry: Telemetry,
        *,
        counts: bool,
        kept: RetentionMetrics | None = None,
        every_s: float = CACHE_S,
    ) -> None:
        self._control = control
        self._telemetry = telemetry
        self._every_s = every_s
        self._read_at = float("-inf")
        self._verdicts: list[DriftRow] = []
        self._watches: list[WatchRow] = []
        self._found: list[Finding] = []
        self._fleet = fleet_metrics.Known()
        self._loop = LoopFigures()
        self._experiments = ExperimentMetrics(telemetry, lambda: self._found, counts=counts)
        telemetry.registry.register(DriftMetrics(lambda: self._verdicts))
        telemetry.registry.register(WatchMetrics(lambda: self._watches))
        telemetry.registry.register(self._experiments)
        telemetry.registry.register(fleet_metrics.FleetMetrics(lambda: self._fleet))
        telemetry.registry.register(LoopMetrics(lambda: self._loop))
        self._kept = kept
        if kept is not None:
            telemetry.registry.register(kept)

    def see(self, table: RoutingTable) -> None:
        """Take a new table."""
        self._experiments.see(table)

    async def refresh(self) -> None:
        """Read again what is old. A store that does not answer is counted, and the old rows stay."""
        if time.monotonic() - self._read_at <= self._every_s:
            return
        self._read_at = time.monotonic()  # scrapes that come meanwhile do not read too
        try:
            self._verdicts, self._watches, self._found, self._fleet = await asyncio.to_thread(self._read)
            self._loop = await asyncio.to_thread(read_loop, self._control.loops, self._control.database)
            if self._kept is not None:
                await asyncio.to_thread(self._kept.read)
        except StoreUnavailable:
            self._telemetry.store_errors.labels("metrics").inc()

    def _read(self) -> tuple[list[DriftRow], list[WatchRow], list[Finding], fleet_metrics.Known]:
        control = self._control
        return (
            control.drift.latest("look"),
            control.watches.stand(limit=MAX_ROUTES),
            control.findings.newest(MAX_ROUTES),
            fleet_metrics.read(control),
        )
