"""Removes rows that were kept long enough, in small steps beside the controller's turns.

Each step is a transaction of its own and lasts a moment, and between two of them it rests for several times
as long, so that no recorder waits. What a step removes is never wanted again, so it does not matter who takes
it, how often, or that the process ends in between.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.controller.clock import Clock
from gateway.store import pruning
from gateway.store.database import Database, StoreUnavailable
from gateway.store.pruning import Prunable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept, in seconds; 0 keeps them."""

    requests_s: float = 0.0
    pairs_s: float = 30 * 86_400.0
    feedback_s: float = 0.0
    drift_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PrunerConfig:
    """What is kept, and the pace of removing the rest. Times are seconds.

    The rows of a step are chosen so that it lasts `step_s`; then comes a pause of `rest` times what it took.
    """

    retention: Retention = Retention()
    every_s: float = 600.0
    step_s: float = 0.05
    rest: float = 4.0
    least_pause_s: float = 0.02
    first_rows: int = 200
    least_rows: int = 20
    most_rows: int = 5_000


def next_rows(rows: int, took_s: float, config: PrunerConfig) -> int:
    """Return how many rows the next step looks at, after one of `rows` that took so long."""
    if took_s > 2 * config.step_s:
        return max(config.least_rows, rows // 2)
    if took_s < config.step_s / 2:
        return min(config.most_rows, rows * 2)
    return rows


def prunables(control: Database, requests: Database) -> dict[str, Prunable]:
    """Return what may be removed, by the field of `Retention` that says when. Events are not among it."""
    return {
        "requests_s": pruning.recorded_requests(requests),
        "pairs_s": pruning.pairs(requests),
        "feedback_s": pruning.ratings(control),
        "drift_s": pruning.verdicts(control),
    }


class Pruner:
    """The removals of one controller."""

    def __init__(
        self,
        rows: Mapping[str, Prunable],
        *,
        config: PrunerConfig,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        """`rows` are what may be removed, by fields of `Retention`."""
        self._rows = rows
        self._config = config
        self._retention = config.retention
        self._clock = clock
        self._due = 0.0
        self._running: asyncio.Task[None] | None = None

    def keep_for(self, retention: Retention) -> None:
        """Keep rows for another time, from the next round on, which begins soon."""
        self._retention = retention
        self._due = 0.0

    def start(self) -> None:
        """Begin to remove what is old when that is due, unless it is under way."""
        now = self._clock.monotonic()
        if self._running is None and now >= self._due:
            self._due = now + self._config.every_s
            self._running = asyncio.create_task(self.prune(), name="prune")
            self._running.add_done_callback(self._done)

    async def stop(self) -> None:
        """End what is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,))

    async def prune(self) -> None:
        """Remove everything that is old, step by step."""
        for field, kept_s in self._due_now():
            await self._prune(self._rows[field], kept_s)

    def _due_now(self) -> Sequence[tuple[str, float]]:
        kept = ((field, float(getattr(self._retention, field))) for field in self._rows)
        return [(field, kept_s) for field, kept_s in kept if kept_s > 0]

    async def _prune(self, rows: Prunable, kept_s: float) -> None:
        before = self._clock.wall() - kept_s
        config, removed, size, after = self._config, 0, self._config.first_rows, None
        try:
            while True:
                began = self._clock.monotonic()
                step = await asyncio.to_thread(rows.remove, before=before, limit=size, after=after)
                took_s = self._clock.monotonic() - began
                removed, after = removed + step.removed, step.upto
                if step.last:
                    break
                size = next_rows(size, took_s, config)
                await asyncio.sleep(max(config.least_pause_s, config.rest * took_s))
        except StoreUnavailable as error:
            log.warning("old %s could not be removed: %s", rows.what, error)
        if removed:
            log.info("%d %s are removed, kept for %.0f h", removed, rows.what, kept_s / 3600)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("removing old rows failed", exc_info=error)
