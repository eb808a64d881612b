"""How much each version is asked for: decayed counts, kept by each worker and reported with its heartbeat.

A count loses half of its weight in every half-life, so counts of different ages are comparable, a rate needs
no window, and workers' counts add up. What is sent is bounded: the versions that were asked for last.
"""

import heapq
import math
import time
from collections.abc import Callable

from gateway.store.placement import Usage

HALF_LIFE_S = 60.0
MAX_REPORTED = 2000
"""Versions in one report; of more, those that were asked for least lately are left out."""

GONE_BELOW = 1e-3
"""A decayed count below this is worth nothing; when the version was last asked for is still reported."""


class Meter:
    """Counts the requests of each version. Belongs to one event loop."""

    def __init__(
        self, *, half_life_s: float = HALF_LIFE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._decay = math.log(2) / half_life_s
        self._clock = clock
        self._fresh: dict[str, int] = {}
        self._usage: dict[str, Usage] = {}
        self._at = clock()

    def count(self, label: str) -> None:
        """Count one request."""
        self._fresh[label] = self._fresh.get(label, 0) + 1

    def report(self) -> dict[str, Usage]:
        """Return the usage up to now, of the versions that were asked for last."""
        now, wall = self._clock(), time.time()
        factor = math.exp(-self._decay * max(0.0, now - self._at))
        self._at = now
        fresh, self._fresh = self._fresh, {}
        usage = {
            label: Usage(known.count * factor if known.count * factor >= GONE_BELOW else 0.0, known.used_at)
            for label, known in self._usage.items()
        }
        for label, count in fresh.items():
            before = usage.get(label)
            usage[label] = Usage(count + (before.count if before else 0.0), wall)
        if len(usage) > MAX_REPORTED:
            last = heapq.nlargest(MAX_REPORTED, usage.items(), key=lambda item: item[1].used_at)
            usage = dict(last)
        self._usage = usage
        return dict(usage)


def rate_of(count: float, *, half_life_s: float = HALF_LIFE_S) -> float:
    """Return the requests a second that hold a decayed count up."""
    return count * math.log(2) / half_life_s
