"""How long ago things were, for decisions that a jump of the wall clock must not make.

A stamp is compared with the wall clock once, when it is first met; from then on the monotonic clock counts.
So a clock that jumps while the process runs changes no age, a stamp from the future is new, and only a jump
that happened while no process was looking is taken for time.
"""

from collections.abc import Callable, Hashable

KEPT_S = 14 * 86_400.0


class Ages:
    """The ages of stamps, by key. `wall` and `monotonic` return seconds."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._begun: dict[Hashable, tuple[float | None, float]] = {}
        self._asked: dict[Hashable, float] = {}

    def of(self, key: Hashable, stamp: float) -> float:
        """Return the seconds since `stamp` (since the epoch). Another stamp under a key begins anew."""
        known = self._begun.get(key)
        if known is None or known[0] != stamp:
            return self._met(key, stamp, max(0.0, self._wall() - stamp))
        return self._since(key, known[1])

    def since_met(self, key: Hashable) -> float:
        """Return the seconds since a key was first asked for."""
        known = self._begun.get(key)
        return self._met(key, None, 0.0) if known is None else self._since(key, known[1])

    def forget(self) -> None:
        """Forget the keys that nobody has asked for in a long time."""
        oldest = self._monotonic() - KEPT_S
        for key in [key for key, asked in self._asked.items() if asked < oldest]:
            del self._asked[key], self._begun[key]

    def _met(self, key: Hashable, stamp: float | None, age: float) -> float:
        now = self._asked[key] = self._monotonic()
        self._begun[key] = (stamp, now - age)
        return age

    def _since(self, key: Hashable, begun: float) -> float:
        now = self._asked[key] = self._monotonic()
        return max(0.0, now - begun)
