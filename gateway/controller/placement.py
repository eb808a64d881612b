"""Which versions stand on which replicas, and where their traffic goes. Pure.

A version has *homes*, the replicas that its requests go to, so that its prefixes are cached in one place;
where slots are left it also has *standbys*, which are registered and attested and take over at once.

Who gets a place is decided as a cache decides it: what stands stays until room is needed, and the least
recently used goes first. Where it stands is incremental bin packing with bounded loads: a newcomer goes to
the least loaded replica (Graham 1969; ties by rendezvous hashing, Thaler and Ravishankar 1998), what has a
home keeps it, and only a replica beyond (1 + ε) times the mean load gives homes away, as in consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018). An adapter whose load alone is beyond
that bound is spread.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from hashlib import blake2b
from math import ceil

from gateway.controller.balance import Board
from gateway.core.refs import VersionRef

ACT_ABOVE = 0.35
"""ε at which a replica's load makes homes move …"""

SETTLE_BELOW = 0.15
"""… and ε up to which they then move: between the two nothing moves, so that noise does not."""

SHRINK_BELOW = 0.7
"""An adapter gives up a home when its load is below this share of what the fewer homes could carry."""

MAX_MOVES = 4
"""Homes moved for balance in one decision: each costs the prefixes that were cached."""


@dataclass(frozen=True, slots=True)
class Slots:
    """A replica's room: distinct adapters in one batch, and distinct adapters in memory."""

    max_loras: int
    max_cpu_loras: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for.

    `serving` versions answer routes' traffic now, `wanted` ones a route's spec needs, `others` are the
    remaining active versions with the time they were made. `load` is in requests a second (any unit does),
    `busy` have requests in flight, `used_at` is when a version was last asked for. `waiting` versions have
    requests that wait for them, `overdue` ones for so long that a busy version makes room. `fresh` ones
    have only just come and are not sent away yet. `shadows` claim a place as if they stood: by when they were
    last used, and never against one that is busy or waited for. `steady`: the loads rest on enough requests
    to move homes.
    Times are seconds since the epoch.
    """

    serving: frozenset[VersionRef] = frozenset()
    wanted: frozenset[VersionRef] = frozenset()
    others: Mapping[VersionRef, float] = field(default_factory=dict)
    shadows: frozenset[VersionRef] = frozenset()
    pins: frozenset[VersionRef] = frozenset()
    waiting: Mapping[VersionRef, float] = field(default_factory=dict)
    overdue: frozenset[VersionRef] = frozenset()
    fresh: frozenset[VersionRef] = frozenset()
    busy: frozenset[VersionRef] = frozenset()
    load: Mapping[VersionRef, float] = field(default_factory=dict)
    used_at: Mapping[VersionRef, float] = field(default_factory=dict)
    steady: bool = False
    min_ready: int = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands now: homes as decided before, what is attested by replica, and pairs that failed.

    `going` versions have been sent away: they still stand, and claim nothing by that.
    """

    homes: Mapping[VersionRef, tuple[str, ...]] = field(default_factory=dict)
    attested: Mapping[str, frozenset[VersionRef]] = field(default_factory=dict)
    failed: frozenset[tuple[str, VersionRef]] = frozenset()
    going: frozenset[VersionRef] = frozenset()

    def places(self, ref: VersionRef) -> list[str]:
        """Return the replicas on which a version is attested."""
        return [replica for replica, refs in self.attested.items() if ref in refs]


@dataclass(frozen=True, slots=True)
class Placement:
    """`homes`: version → replicas that get its traffic. `on`: replica → versions, the most urgent first."""

    homes: Mapping[VersionRef, tuple[str, ...]]
    on: Mapping[str, tuple[VersionRef, ...]]


class Rank(IntEnum):
    """Who gets a place before whom; after these come versions that do not stand, those of routes first."""

    PIN = 0
    WANTED = 1  # a swap is being prepared
    FRESH = 2  # serves its first requests; without this two versions could drive each other out for ever
    OVERDUE = 3  # waits for so long that a busy one makes room: no adapter waits for ever
    BUSY = 4
    WAITING = 5
    IDLE = 6  # stands, and nobody asks for it now: the least recently used makes room first


def place(demand: Demand, replicas: Mapping[str, Slots], standing: Standing) -> Placement:
    """Decide what stands on `replicas`, the healthy ones.

    Never more than `max_cpu_loras` versions on a replica, except that one which moves stays in its old place
    until it is attested in the new one. Every version stands somewhere when there are slots for all.
    """
    if not replicas:
        return Placement({}, {})
    total = sum(slots.max_cpu_loras for slots in replicas.values())
    order = ranked(demand, standing, at_most=total + 1, at_most_wanted=max(1, total // 2))
    chosen, homes_of = _choose(demand, order, standing, len(replicas), total)
    board = Board(replicas, demand.load, standing.failed, _tie)
    _keep(board, chosen, homes_of, standing)
    for ref in sorted(chosen, key=lambda ref: -demand.load.get(ref, 0.0)):
        _settle(board, ref, homes_of[ref])
    board.even_out_counts()
    board.spread_idle(standing.attested)
    if demand.steady:
        board.balance(act_above=ACT_ABOVE, settle_below=SETTLE_BELOW, max_moves=MAX_MOVES)
    homes = {ref: board.homes[ref] for ref in chosen if board.homes[ref]}
    return Placement(homes, _stand_by(board, demand, chosen, standing))


def ranked(demand: Demand, standing: Standing, *, at_most: int, at_most_wanted: int) -> list[VersionRef]:
    """Return the versions, the one with the strongest claim to a place first.

    Of those that claim nothing (they do not stand, and nobody waits for them) only the first `at_most` are
    returned: there may be thousands. Swaps that are being prepared claim `at_most_wanted` places at a time:
    one that can't succeed, or a thousand at once, must not drive out what answers.
    """
    stands = set(standing.homes).union(*standing.attested.values()) - standing.going
    demand = replace(demand, wanted=frozenset(sorted(demand.wanted)[:at_most_wanted]))
    known = demand.serving | demand.others.keys() | demand.wanted | demand.pins | demand.waiting.keys()
    claim = known & (demand.wanted | demand.pins | demand.waiting.keys() | demand.shadows | stands)

    def by_claim(ref: VersionRef) -> tuple[int, float, float, str, int]:
        rank = _rank(ref, demand)
        since = demand.waiting[ref] if rank in (Rank.OVERDUE, Rank.WAITING) else -demand.used_at.get(ref, 0.0)
        return rank, since, -demand.others.get(ref, 0.0), ref.name, -ref.version

    def by_use(ref: VersionRef) -> tuple[bool, float, float, str, int]:
        used, made = demand.used_at.get(ref, 0.0), demand.others.get(ref, 0.0)
        return ref not in demand.serving, -used, -made, ref.name, -ref.version

    return [*sorted(claim, key=by_claim), *heapq.nsmallest(at_most, known - claim, key=by_use)]


def _rank(ref: VersionRef, demand: Demand) -> Rank:
    if ref in demand.pins:
        return Rank.PIN
    if ref in demand.wanted:
        return Rank.WANTED
    if ref in demand.waiting:
        return Rank.OVERDUE if ref in demand.overdue else Rank.WAITING
    return Rank.FRESH if ref in demand.fresh else Rank.BUSY if ref in demand.busy else Rank.IDLE


def _choose(
    demand: Demand, order: Sequence[VersionRef], standing: Standing, replicas: int, total: int
) -> tuple[list[VersionRef], dict[VersionRef, int]]:
    """Return who gets a place, and how many homes each gets.

    Further homes of a hot adapter go before the idle, but never before a version's only place when there
    is room for all.
    """
    spread = _spread(demand, order, standing, replicas)
    extra = sum(spread.values()) - len(spread)
    if len(order) <= total:
        free = total - len(order)
    else:
        claims = demand.wanted | demand.pins | demand.waiting.keys() | demand.busy
        claims |= {ref for ref, load in demand.load.items() if load > 0}
        free = max(0, total - len(claims))
    homes: dict[VersionRef, int] = {}
    given = 0
    for ref in sorted(spread, key=lambda ref: -demand.load.get(ref, 0.0)):
        more = min(spread[ref] - 1, free - given)
        homes[ref] = 1 + more
        given += more
    chosen = list(order[: total - min(extra, given)])
    return chosen, {ref: homes.get(ref, 1) for ref in chosen}


def _spread(
    demand: Demand, order: Sequence[VersionRef], standing: Standing, replicas: int
) -> dict[VersionRef, int]:
    """Return how many homes each version should have whose load asks for more than one."""
    mean = sum(demand.load.values()) / replicas
    if mean <= 0 or not demand.steady:
        return {
            ref: min(len(standing.homes[ref]), replicas)
            for ref in order
            if len(standing.homes.get(ref, ())) > 1
        }
    bound = (1 + SETTLE_BELOW) * mean
    found = {}
    for ref in order:
        load, present = demand.load.get(ref, 0.0), len(standing.homes.get(ref, ()))
        count = max(1, ceil(load / bound))
        if count < present and load > SHRINK_BELOW * (present - 1) * bound:
            count = present
        if count > 1:
            found[ref] = min(count, replicas)
    return found


def _keep(
    board: Board, chosen: Iterable[VersionRef], homes_of: Mapping[VersionRef, int], standing: Standing
) -> None:
    """Give everybody the homes they have, as far as those replicas are there and have slots."""
    for ref in chosen:
        board.enter(ref, homes_of[ref])
        for replica in standing.homes.get(ref, ())[: homes_of[ref]]:
            if board.may_take(ref, replica) and (replica, ref) not in standing.failed:
                board.add(ref, replica)
    for ref in chosen:
        places = [r for r in standing.places(ref) if board.may_take(ref, r)]
        if not board.homes[ref] and places:
            board.add(ref, board.least_loaded(ref, places))


def _settle(board: Board, ref: VersionRef, count: int) -> None:
    """Give a version the homes that it lacks."""
    while len(board.homes[ref]) < count:
        places = board.open_to(ref)
        if not places:
            return
        board.add(ref, board.least_loaded(ref, places))


def _stand_by(
    board: Board, demand: Demand, chosen: Sequence[VersionRef], standing: Standing
) -> dict[str, tuple[VersionRef, ...]]:
    """Fill what is left: bridges first, then what swaps need, then what stands already, then all in turn."""
    for ref in chosen:
        places = standing.places(ref)
        if places and not set(places) & set(board.homes[ref]):
            board.bridge(ref, places)
    for ref in filter(demand.wanted.__contains__, chosen):
        board.stand_by(ref, demand.min_ready)
    for ref in chosen:
        for replica in standing.places(ref):
            board.stand_by_on(ref, replica)
    for copies in range(2, len(board.replicas) + 1):
        if not board.room_left():
            break
        for ref in chosen:
            board.stand_by(ref, copies)
    return {replica: _by_urgency(board, replica, demand, chosen) for replica in sorted(board.replicas)}


def _by_urgency(
    board: Board, replica: str, demand: Demand, chosen: Sequence[VersionRef]
) -> tuple[VersionRef, ...]:
    """Return what stands on a replica: what requests wait for, what routes need, the rest; homes first."""

    def urgency(ref: VersionRef) -> tuple[bool, bool, bool]:
        routed = ref in demand.wanted or ref in demand.serving
        return ref not in demand.waiting, not routed, replica not in board.homes[ref]

    return tuple(sorted((ref for ref in chosen if ref in board.on[replica]), key=urgency))


def _tie(ref: VersionRef, replica: str) -> int:
    """Rendezvous hashing by the adapter's name: its versions prefer the same replica."""
    digest = blake2b(f"{ref.name}\0{replica}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
