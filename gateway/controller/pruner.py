"""Removes pairs of answers that were kept long enough, in small steps beside the controller's turns.

Each step is a transaction of its own, so that no recorder waits for long; what a step removes is never wanted
again, so it does not matter who takes it, how often, or that the process ends in between.
"""

import asyncio
import logging
from dataclasses import dataclass

from gateway.controller.clock import Clock
from gateway.store.database import StoreUnavailable
from gateway.store.shadows import ShadowPairs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrunerConfig:
    """How long pairs are kept, and the pace of removing them. Times are seconds."""

    retention_s: float = 30 * 86_400.0
    every_s: float = 600.0
    step_rows: int = 500
    pause_s: float = 0.1
    most_steps: int = 200


class Pruner:
    """The removals of one controller."""

    def __init__(
        self,
        pairs: ShadowPairs,
        *,
        config: PrunerConfig,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self._pairs = pairs
        self._config = config
        self._clock = clock
        self._due = 0.0
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to remove what is old when that is due, unless it is under way."""
        now = self._clock.monotonic()
        if self._running is None and now >= self._due:
            self._due = now + self._config.every_s
            self._running = asyncio.create_task(self.prune(), name="pairs")
            self._running.add_done_callback(self._done)

    async def stop(self) -> None:
        """End what is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,))

    async def prune(self) -> None:
        """Remove what is old, step by step; what is left after the most steps waits for the next time."""
        before = self._clock.wall() - self._config.retention_s
        removed = 0
        try:
            for _ in range(self._config.most_steps):
                step = await asyncio.to_thread(
                    self._pairs.remove, before=before, limit=self._config.step_rows
                )
                removed += step
                if step < self._config.step_rows:
                    break
                await asyncio.sleep(self._config.pause_s)
        except StoreUnavailable as error:
            log.warning("old pairs of answers could not be removed: %s", error)
        if removed:
            log.info("%d pairs of answers are removed, kept for %.0f s", removed, self._config.retention_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("removing old pairs of answers failed", exc_info=error)
