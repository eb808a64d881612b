"""How long ago things were, for decisions that a jump of the wall clock must not make.

A stamp is compared with the wall clock once, when it is first met; from then on the monotonic clock counts.
So a clock that jumps while the process runs changes no age, a stamp from the future is new, and only a jump
that happened while no process was looking is taken for time.
"""

from collections.abc import Callable, Hashable


class Ages:
    """The ages of stamps, by key. `wall` and `monotonic` return seconds."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._begun: dict[Hashable, tuple[float, float]] = {}
        self._asked: set[Hashable] = set()

    def of(self, key: Hashable, stamp: float) -> float:
        """Return the seconds since `stamp` (since the epoch). Another stamp under a key begins anew."""
        self._asked.add(key)
        known = self._begun.get(key)
        if known is None or known[0] != stamp:
            age = max(0.0, self._wall() - stamp)
            known = self._begun[key] = (stamp, self._monotonic() - age)
        return max(0.0, self._monotonic() - known[1])

    def forget_unasked(self) -> None:
        """Forget the keys that were not asked for since the last call."""
        self._begun = {key: begun for key, begun in self._begun.items() if key in self._asked}
        self._asked.clear()
