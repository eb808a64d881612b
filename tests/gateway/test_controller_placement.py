"""Placement: what always holds, whatever the demand, and what happens in the cases that matter."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.controller.placement import ACT_ABOVE, MAX_MOVES, Demand, Placement, Slots, Standing, place
from gateway.core.refs import VersionRef

NAMES = [f"a{number:02d}" for number in range(40)]
REFS = [VersionRef(name, 1) for name in NAMES]
A, B, C, D = (VersionRef(name, 1) for name in "abcd")


def fleet(count: int, *, max_loras: int = 4, max_cpu_loras: int = 8) -> dict[str, Slots]:
    """So many replicas of one size."""
    return {f"r{number:02d}": Slots(max_loras, max_cpu_loras) for number in range(count)}


def after(placement: Placement) -> Standing:
    """What stands once a placement is carried out."""
    return Standing(placement.homes, {replica: frozenset(refs) for replica, refs in placement.on.items()})


def settled(demand: Demand, replicas: Mapping[str, Slots], standing: Standing | None = None) -> Placement:
    """Place over and over until nothing changes."""
    placement = place(demand, replicas, standing or Standing())
    for _ in range(60):
        following = place(demand, replicas, after(placement))
        if following.homes == placement.homes:
            return following
        placement = following
    raise AssertionError("placement flaps")


def moved(before: Placement, now: Placement, *, among: set[str]) -> int:
    """How many homes there are now on replicas of `among` that were not there before."""
    return sum(len(set(homes) & among - set(before.homes.get(ref, ()))) for ref, homes in now.homes.items())


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    """Any demand over up to forty versions."""
    refs = draw(st.lists(st.sampled_from(REFS), min_size=1, max_size=40, unique=True))
    some = st.frozensets(st.sampled_from(refs), max_size=len(refs))
    waiting = draw(st.dictionaries(st.sampled_from(refs), st.floats(0, 100), max_size=10))
    return Demand(
        serving=draw(some),
        wanted=draw(st.frozensets(st.sampled_from(refs), max_size=3)),
        shadows=draw(st.frozensets(st.sampled_from(refs), max_size=3)),
        others={ref: float(number % 7) for number, ref in enumerate(refs)},
        pins=draw(st.frozensets(st.sampled_from(refs), max_size=3)),
        waiting=waiting,
        overdue=frozenset(ref for ref, since in waiting.items() if since < 50),
        fresh=draw(st.frozensets(st.sampled_from(refs), max_size=3)),
        busy=draw(some),
        load=draw(st.dictionaries(st.sampled_from(refs), st.floats(0, 50), max_size=40)),
        used_at=draw(st.dictionaries(st.sampled_from(refs), st.floats(0, 100), max_size=40)),
        steady=draw(st.booleans()),
        min_ready=draw(st.integers(1, 2)),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Demand, dict[str, Slots], Standing]:
    """A demand, a fleet, and what another demand left standing on another fleet."""
    slots = st.tuples(st.integers(1, 4), st.integers(4, 12))
    before, now = draw(demands()), draw(demands())
    sizes = draw(st.lists(slots, min_size=1, max_size=6))
    replicas = {f"r{number:02d}": Slots(*size) for number, size in enumerate(sizes)}
    old = dict(list(replicas.items())[: draw(st.integers(1, len(replicas)))]) | fleet(draw(st.integers(0, 2)))
    standing = after(place(before, old, Standing()))
    failed = draw(
        st.frozensets(st.tuples(st.sampled_from(sorted(replicas)), st.sampled_from(REFS)), max_size=5)
    )
    return now, replicas, replace(standing, failed=failed)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(situations())
def test_what_always_holds(situation: tuple[Demand, dict[str, Slots], Standing]) -> None:
    """Slots are respected, pins kept, all are served that fit, and the same question has the same answer."""
    demand, replicas, standing = situation
    placement = place(demand, replicas, standing)
    known = demand.others.keys() | demand.serving | demand.wanted | demand.pins | demand.waiting.keys()
    total = sum(slots.max_cpu_loras for slots in replicas.values())
    for replica, slots in replicas.items():
        on = set(placement.on[replica])
        bridged = {ref for ref in on if not set(standing.places(ref)) & set(placement.homes[ref])}
        assert len(on) - len(bridged) <= slots.max_cpu_loras
    for ref, homes in placement.homes.items():
        assert homes
        assert len(set(homes)) == len(homes)
        assert all(ref in placement.on[replica] for replica in homes)
    assert placement.homes.keys() <= known
    assert demand.pins <= placement.homes.keys() or len(demand.pins) > total
    if len(known) <= total:
        assert placement.homes.keys() == known
    assert place(demand, dict(reversed(replicas.items())), standing) == placement


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(situations())
def test_no_replica_has_too_many_distinct_adapters_while_another_has_room(
    situation: tuple[Demand, dict[str, Slots], Standing],
) -> None:
    """With every copy free to go anywhere, none has more homes than `max_loras` while another has fewer."""
    demand, replicas, standing = situation
    demand, standing = replace(demand, steady=False), replace(standing, failed=frozenset())
    placement = place(demand, replicas, standing)
    count = {replica: sum(replica in homes for homes in placement.homes.values()) for replica in replicas}
    over = {r for r, slots in replicas.items() if count[r] > slots.max_loras}
    under = {r for r, slots in replicas.items() if count[r] < slots.max_loras}
    for source in over:
        there = {ref for ref, homes in placement.homes.items() if source in homes}
        assert all(target in placement.homes[ref] for target in under for ref in there)


@settings(max_examples=60, deadline=None)
@given(demands(), st.integers(2, 6))
def test_nothing_moves_without_a_reason(demand: Demand, count: int) -> None:
    """After some decisions on the same demand there is nothing left to move."""
    settled(demand, fleet(count))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(demands(), st.integers(2, 6))
def test_few_moves_when_a_replica_leaves(demand: Demand, count: int) -> None:
    """What stood elsewhere stays, but for a few homes that even out the load."""
    demand = replace(demand, waiting={}, overdue=frozenset())
    before = settled(demand, fleet(count))
    replicas = fleet(count - 1)
    now = place(demand, replicas, after(before))
    kept = {ref for ref, homes in before.homes.items() if set(homes) & replicas.keys()}
    gone = {
        ref for ref, homes in now.homes.items() if ref in kept and not set(homes) & set(before.homes[ref])
    }
    assert len(gone) <= MAX_MOVES


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(demands(), st.integers(1, 5))
def test_few_moves_when_a_replica_joins(demand: Demand, count: int) -> None:
    """Homes move to the new replica alone: at most its slots for a batch, and a few for the load."""
    demand = replace(demand, waiting={}, overdue=frozenset())
    before = settled(demand, fleet(count))
    replicas = fleet(count + 1)
    now = place(demand, replicas, after(before))
    known = {ref: homes for ref, homes in now.homes.items() if ref in before.homes}
    left = sum(len(set(before.homes[ref]) - set(homes)) for ref, homes in known.items())
    assert left <= 4 + MAX_MOVES


def test_few_moves_when_the_load_changes() -> None:
    """When all that lives on one replica becomes popular, few homes move at a time, until it fits."""
    replicas = fleet(4, max_loras=64, max_cpu_loras=64)
    calm = Demand(serving=frozenset(REFS), load=dict.fromkeys(REFS, 1.0), steady=True)
    placement = settled(calm, replicas)
    popular = {ref for ref, homes in placement.homes.items() if homes == ("r00",)}
    storm = replace(calm, load={ref: 10.0 if ref in popular else 1.0 for ref in REFS})
    steps = []
    for _ in range(8):
        following = place(storm, replicas, after(placement))
        steps.append(moved(placement, following, among=set(replicas)))
        placement = following
    assert max(steps) <= MAX_MOVES + 1  # the last one may be an exchange
    assert sum(steps) > MAX_MOVES + 1
    assert steps[-1] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=8, max_size=40), st.integers(2, 5))
def test_loads_are_bounded(loads: list[float], count: int) -> None:
    """With slots to spare no replica stays beyond (1 + ε) times the mean, where single homes allow it."""
    refs = REFS[: len(loads)]
    demand = Demand(serving=frozenset(refs), load=dict(zip(refs, loads, strict=True)), steady=True)
    replicas = fleet(count, max_loras=64, max_cpu_loras=64)
    homes = settled(demand, replicas).homes
    on = dict.fromkeys(replicas, 0.0)
    for ref, places in homes.items():
        for replica in places:
            on[replica] += demand.load[ref] / len(places)
    mean = sum(loads) / count
    largest = max(demand.load[ref] / len(places) for ref, places in homes.items())
    assert max(on.values()) <= max((1 + ACT_ABOVE) * mean, mean + largest) + 1e-6


def test_a_rare_adapter_has_one_home_and_a_popular_one_several() -> None:
    """Half of all traffic is spread over half of the fleet; the rest keeps one place each."""
    load = {REFS[0]: 50.0} | dict.fromkeys(REFS[1:26], 2.0)
    demand = Demand(serving=frozenset(load), load=load, steady=True)
    homes = settled(demand, fleet(8, max_cpu_loras=16)).homes
    assert len(homes[REFS[0]]) == 4
    assert {len(homes[ref]) for ref in REFS[1:26]} == {1}


@pytest.mark.parametrize(
    ("demand", "stays"),
    [
        pytest.param(Demand(used_at={A: 5, B: 9}, waiting={C: 1}), {B, C}, id="least-recently-used"),
        pytest.param(Demand(used_at={A: 5, B: 9}, waiting={C: 1}, pins=frozenset({A})), {A, C}, id="pinned"),
        pytest.param(Demand(used_at={A: 5, B: 9}, waiting={C: 1}, busy=frozenset({A})), {A, C}, id="busy"),
        pytest.param(Demand(waiting={C: 1}, busy=frozenset({A, B})), {A, B}, id="all-busy"),
        pytest.param(
            Demand(waiting={C: 1}, overdue=frozenset({C}), busy=frozenset({A, B}), used_at={A: 5, B: 9}),
            {B, C},
            id="overdue",
        ),
        pytest.param(
            Demand(
                waiting={C: 1},
                overdue=frozenset({C}),
                busy=frozenset({A, B}),
                used_at={A: 5, B: 9},
                fresh=frozenset({A}),
            ),
            {A, C},
            id="fresh",
        ),
        pytest.param(Demand(waiting={C: 2, D: 1}), {C, D}, id="two-wait"),
        pytest.param(
            Demand(wanted=frozenset({C}), busy=frozenset({A, B}), used_at={A: 5}), {A, C}, id="swap"
        ),
        pytest.param(Demand(serving=frozenset({C})), {A, B}, id="nobody-asks"),
        pytest.param(Demand(shadows=frozenset({C}), used_at={A: 5, B: 9, C: 7}), {B, C}, id="shadow"),
        pytest.param(Demand(shadows=frozenset({C}), used_at={A: 5, B: 9}), {A, B}, id="shadow-unused"),
        pytest.param(
            Demand(shadows=frozenset({C}), used_at={C: 7}, busy=frozenset({A, B})), {A, B}, id="shadow-late"
        ),
    ],
)
def test_who_makes_room(demand: Demand, stays: set[VersionRef]) -> None:
    """On a full replica of two slots, on which A and B stand."""
    standing = Standing({A: ("r00",), B: ("r00",)}, {"r00": frozenset({A, B})})
    demand = replace(demand, others=dict.fromkeys((A, B, C, D), 0.0))
    placement = place(demand, fleet(1, max_loras=2, max_cpu_loras=2), standing)
    assert placement.homes.keys() == stays


def test_homes_that_nobody_asks_for_are_spread_where_it_costs_nothing() -> None:
    """Where one replica was up first, idle homes even out once they are attested on the other too."""
    homes = dict.fromkeys((A, B, C, D), ("r00",))
    everywhere = frozenset(homes)
    alone = Standing(homes, {"r00": everywhere})
    demand = Demand(serving=everywhere, load={A: 1.0})
    assert place(demand, fleet(2), alone).homes == homes
    both = Standing(homes, {"r00": everywhere, "r01": everywhere})
    now = place(demand, fleet(2), both)
    assert now.homes[A] == ("r00",)
    assert sorted(now.homes.values()) == [("r00",), ("r00",), ("r01",), ("r01",)]
    assert place(demand, fleet(2), after(now)).homes == now.homes


def test_everything_stands_by_where_there_is_room() -> None:
    """Slots that are left hold standbys, so that the death of a replica costs no load."""
    demand = Demand(serving=frozenset({A}), wanted=frozenset({B}), others={C: 4.0, D: 3.0})
    placement = place(demand, fleet(2), Standing())
    assert {ref: len(homes) for ref, homes in placement.homes.items()} == dict.fromkeys((A, B, C, D), 1)
    assert {replica: set(refs) for replica, refs in placement.on.items()} == {
        "r00": {A, B, C, D},
        "r01": {A, B, C, D},
    }


def test_what_moves_stands_in_its_old_place_until_it_is_attested_in_the_new_one() -> None:
    """A home that moves from a full replica to a full one leaves nobody without an attested place."""
    load = {REFS[0]: 5.0, REFS[1]: 5.0, REFS[2]: 0.1, REFS[3]: 0.1}
    on = {"r00": frozenset(REFS[:2]), "r01": frozenset(REFS[2:4])}
    homes = {REFS[0]: ("r00",), REFS[1]: ("r00",), REFS[2]: ("r01",), REFS[3]: ("r01",)}
    demand = Demand(serving=frozenset(load), load=load, steady=True)
    now = place(demand, fleet(2, max_cpu_loras=2), Standing(homes, on))
    moves = {ref for ref in load if now.homes[ref] != homes[ref]}
    assert len(moves) == 2
    for ref in moves:
        assert ref in now.on[homes[ref][0]]
        assert ref in now.on[now.homes[ref][0]]


def test_a_place_where_a_version_failed_is_left_for_a_sound_one() -> None:
    """A version that cannot be loaded on its home gets another home, and only then."""
    standing = Standing({A: ("r00",)}, {}, frozenset({("r00", A)}))
    demand = Demand(serving=frozenset({A}))
    assert place(demand, fleet(2), standing).homes == {A: ("r01",)}
    assert place(demand, fleet(1), standing).homes == {A: ("r00",)}
