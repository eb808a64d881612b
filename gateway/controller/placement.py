"""Which versions stand on which replicas. Pure: the same arguments give the same placement."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.core.refs import VersionRef


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for: versions that answer traffic now, that a route's spec needs, and the rest.

    `others` are the remaining active versions with the time they were made (seconds since the epoch).
    """

    serving: frozenset[VersionRef]
    wanted: frozenset[VersionRef]
    others: Mapping[VersionRef, float]


def place(demand: Demand, replicas: Iterable[str], *, slots: int) -> dict[str, tuple[VersionRef, ...]]:
    """Place versions on every replica, the most urgent first.

    What serves or is wanted by a route is always placed: an engine re-reads what it evicted, so too many
    cost time, not answers. Other versions fill the `slots` that are left, newest first, so that a
    rollback or a pinned request finds its version ready.
    """
    needed = [*sorted(demand.serving), *sorted(demand.wanted - demand.serving)]
    room = max(0, slots - len(needed))
    spare = [ref for ref in demand.others if ref not in demand.serving and ref not in demand.wanted]
    newest = heapq.nsmallest(room, spare, key=lambda ref: (-demand.others[ref], ref.name, -ref.version))
    everywhere = (*needed, *newest)
    return dict.fromkeys(sorted(replicas), everywhere)
