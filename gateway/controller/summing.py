"""Sums up usage, hour by hour, beside the controller's turns; what is summed up outlives the requests."""

import asyncio
import logging

from gateway.controller.clock import Clock
from gateway.store.database import StoreUnavailable
from gateway.store.usage import Usage

log = logging.getLogger(__name__)

EVERY_S = 300.0
HOURS_AT_ONCE = 24
PAUSE_S = 0.5
"""Between days that are caught up on, for whoever else uses the store."""

WRITTEN_S = 600.0
"""A request is on the disk so long after its end; one that waits longer was dropped and counted."""


class Summing:
    """The sums of one controller. `longest_s` is what no request takes longer than."""

    def __init__(
        self,
        usage: Usage,
        *,
        longest_s: float,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self._usage = usage
        self._settled_s = longest_s + WRITTEN_S
        self._clock = clock
        self._due = 0.0
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sum up when that is due, unless it is under way."""
        now = self._clock.monotonic()
        if self._running is None and now >= self._due:
            self._due = now + EVERY_S
            self._running = asyncio.create_task(self.sum_up(), name="usage")
            self._running.add_done_callback(self._done)

    async def stop(self) -> None:
        """Wait for what is under way no longer; an hour that was begun is written whole or not at all."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,))

    async def sum_up(self) -> None:
        """Sum up every hour that is settled."""
        settled_until = self._clock.wall() - self._settled_s
        hours = 0
        try:
            while True:
                step = await asyncio.to_thread(
                    self._usage.sum_up, settled_until=settled_until, most_hours=HOURS_AT_ONCE
                )
                hours += step
                if step < HOURS_AT_ONCE:
                    break
                await asyncio.sleep(PAUSE_S)
        except StoreUnavailable as error:
            log.warning("usage could not be summed up: %s", error)
        if hours:
            log.info("usage of %d hours is summed up", hours)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("summing up usage failed", exc_info=error)
