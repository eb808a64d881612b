"""Which replica gets a request. Pure functions of the candidates."""

from collections.abc import Sequence
from typing import Protocol

from gateway.replicas.replica import Replica


class Policy(Protocol):
    """Picks a free replica, or None when all are full. `turn` counts requests up."""

    def __call__(self, candidates: Sequence[Replica], *, turn: int) -> Replica | None:
        """Return one of `candidates`."""


def least_loaded(candidates: Sequence[Replica], *, turn: int) -> Replica | None:
    """Return the free replica with the fewest requests, or None when all are full.

    Among equals `turn` decides, which the caller counts up: without it the first one would get every
    request of a quiet time.
    """
    best: Replica | None = None
    count = len(candidates)
    if count == 1:
        return candidates[0] if candidates[0].free else None
    for offset in range(count):
        replica = candidates[(turn + offset) % count]
        if replica.free and (best is None or replica.in_flight < best.in_flight):
            best = replica
    return best


def round_robin(candidates: Sequence[Replica], *, turn: int) -> Replica | None:
    """Return the replica whose turn it is, or the next free one: what most proxies do, to compare with."""
    count = len(candidates)
    for offset in range(count):
        replica = candidates[(turn + offset) % count]
        if replica.free:
            return replica
    return None
