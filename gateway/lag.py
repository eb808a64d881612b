"""How late the event loop is: the time between when a timer was due and when its turn came.

Whatever holds the loop, a long step of our own, a thread that keeps the interpreter's lock or a machine that
is too busy, holds every request of this worker for as long.
"""

import asyncio
import time

EVERY_S = 0.25
SLOT_S = 5.0
SLOTS = 4
"""The worst of the last 15 to 20 seconds is told, so that a scrape every 15 s misses nothing."""


class LoopLag:
    """Samples one loop."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._slots: list[tuple[int, float]] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._every_s
            await asyncio.sleep(self._every_s)
            self.note(max(0.0, loop.time() - due), at=time.monotonic())

    def note(self, lag_s: float, *, at: float) -> None:
        """Take one sample."""
        slot = int(at / SLOT_S)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1] = (slot, max(lag_s, self._slots[-1][1]))
        else:
            self._slots = [*self._slots[-SLOTS + 1 :], (slot, lag_s)]

    def worst_s(self, at: float | None = None) -> float:
        """Return the longest lag lately, in seconds; 0 before the first sample."""
        now = int((time.monotonic() if at is None else at) / SLOT_S)
        return max((lag_s for slot, lag_s in self._slots if now - slot < SLOTS), default=0.0)
