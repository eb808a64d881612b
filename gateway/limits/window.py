"""What was used within the last minute, in slots of a second. Pure: the caller says what time it is.

A slot counts until all of it is older than the window, so that within any window no more was used than is
counted; what is counted may be up to a slot too old. Time is monotonic, and never read from a clock that
somebody sets.
"""

from collections import deque

WINDOW_S = 60


class Window:
    """Amounts by the second in which they were used."""

    __slots__ = ("_slots", "_total")

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()
        self._total = 0

    def add(self, now: float, amount: int) -> int:
        """Count an amount as used now; return the slot that it is in."""
        second = int(now)
        slots = self._slots
        if slots and slots[-1][0] >= second:
            slots[-1][1] += amount
            second = slots[-1][0]
        else:
            slots.append([second, amount])
        self._total += amount
        return second

    def take_back(self, second: int, amount: int) -> int:
        """Uncount up to an amount of a slot, as far as it is still counted; return how much that was."""
        for slot in reversed(self._slots):
            if slot[0] == second:
                taken = min(amount, slot[1])
                slot[1] -= taken
                self._total -= taken
                return taken
            if slot[0] < second:
                break
        return 0

    def total(self, now: float) -> int:
        """Return what was used within the window that ends now."""
        slots, horizon = self._slots, int(now) - WINDOW_S
        while slots and slots[0][0] < horizon:
            self._total -= slots.popleft()[1]
        return self._total

    def since(self, second: int) -> int:
        """Return what was used in that second and later."""
        found = 0
        for slot in reversed(self._slots):
            if slot[0] < second:
                break
            found += slot[1]
        return found

    def falls_in(self, now: float, most: int) -> float | None:
        """Return in how many seconds the total will be at most `most` if nothing is added; None: never."""
        left = self.total(now)
        if left <= most:
            return 0.0
        if most < 0:
            return None
        for second, amount in self._slots:
            left -= amount
            if left <= most:
                return max(0.0, second + WINDOW_S + 1 - now)
        return None
