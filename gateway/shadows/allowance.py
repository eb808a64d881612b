"""A budget of replays that time fills."""

from collections.abc import Callable

BURST_S = 10.0
"""The budget of so many seconds may be spent at once."""


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
