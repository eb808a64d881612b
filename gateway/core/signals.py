"""Implicit signals: what subjects do instead of rating, read from recorded requests. Pure.

Each is a metric of its own, a bool for each request that it can be told of, and never mixed with ratings.
Nothing is written for them: rows hold all that they follow from, so they cost a request nothing, can't be
lost beside its row, and count late rows as well.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

ASKED_AGAIN = "asked_again"
"""The same subject sent another request on the route within a minute after the answer's end."""

ABANDONED = "abandoned"
"""The client left before its stream had ended."""

CUT_BY_LENGTH = "cut_by_length"
"""Generation ended at the limit of tokens."""

IMPLICIT = frozenset({ASKED_AGAIN, ABANDONED, CUT_BY_LENGTH})
AGAIN_WITHIN_S = 60.0
_GONE = 499


class Told(NamedTuple):
    """As much of a recorded request as signals need; names and units are those of `RequestRow`."""

    id: str
    at: float
    route: str | None
    adapter: str
    arm: str | None
    unit: str | None
    status: int
    streamed: bool
    finish_reason: str | None
    latency_ms: float

    @property
    def ended_at(self) -> float:
        """When the answer had ended, in seconds since the epoch."""
        return self.at + max(0.0, self.latency_ms) / 1000


class Signal(NamedTuple):
    """One signal of one request. `at` is when it could be told."""

    request_id: str
    route: str | None
    adapter: str
    arm: str | None
    unit: str | None
    metric: str
    value: bool
    at: float


def signals(rows: Iterable[Told], *, until: float) -> list[Signal]:
    """Return the signals of one route's requests, by request, oldest first.

    Only requests that got an answer, whole or in part, have any: what became of the others is their status.
    Whether a subject asks again is told when a minute has passed by `until` (seconds since the epoch) or
    they have asked; a request that began before the answer had ended is not asked again but beside it.
    """
    every = sorted(rows, key=lambda row: (row.at, row.id))
    begun: dict[str, list[float]] = {}
    for row in every:
        if row.unit is not None:
            begun.setdefault(row.unit, []).append(row.at)
    found: list[Signal] = []
    for row in every:
        if row.status not in (200, _GONE):
            continue
        if row.streamed:
            found.append(_signal(row, ABANDONED, value=row.status == _GONE, at=row.ended_at))
        if row.finish_reason is not None:
            cut = row.finish_reason == "length"
            found.append(_signal(row, CUT_BY_LENGTH, value=cut, at=row.ended_at))
        again = None if row.unit is None else _again(row, begun[row.unit], until)
        if again is not None:
            value, at = again
            found.append(_signal(row, ASKED_AGAIN, value=value, at=at))
    return found


def tally(found: Iterable[Signal]) -> dict[tuple[str | None, str], tuple[int, int]]:
    """Return by arm and metric of how many requests it is known, and of how many of those it is true."""
    counts: dict[tuple[str | None, str], tuple[int, int]] = {}
    for signal in found:
        known, true = counts.get((signal.arm, signal.metric), (0, 0))
        counts[signal.arm, signal.metric] = (known + 1, true + signal.value)
    return counts


def _again(row: Told, begun: list[float], until: float) -> tuple[bool, float] | None:
    """Return whether the subject asked again and when that was known; None while it is open."""
    later = bisect_left(begun, row.ended_at)
    while later < len(begun) and begun[later] <= row.at:  # itself, when it took no time at all
        later += 1
    last = row.ended_at + AGAIN_WITHIN_S
    if later < len(begun) and begun[later] <= last:
        return True, begun[later]
    return (False, last) if until >= last else None


def _signal(row: Told, metric: str, *, value: bool, at: float) -> Signal:
    return Signal(row.id, row.route, row.adapter, row.arm, row.unit, metric, value, at)
