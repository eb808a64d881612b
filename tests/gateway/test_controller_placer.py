"""Placement from the store to the store: what is read, what is written, and what is left alone."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.controller.placement import Slots
from gateway.controller.placer import Needs, Placer
from gateway.controller.planner import (
    BALANCE_EVERY_S,
    ENOUGH_REQUESTS,
    Planner,
    PlannerConfig,
    Report,
    expected_load,
)
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, Capture, Route, RouteSpec, RouteStatus
from gateway.routing.table import build
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, LeaseLost, RegistrationRow, RegistrationState, WorkerRow
from gateway.store.placement import NOWHERE, Counts, Usage

A, B, C = (VersionRef(name, 1) for name in "abc")


class Desk:
    """A store with two healthy replicas of two slots each, and a placer over it."""

    def __init__(
        self, store: ControlStore, *, pins: frozenset[VersionRef] = frozenset(), **options: str
    ) -> None:
        self.store = store
        self.epoch = store.fleet.acquire(CONTROLLER, "test", ttl_s=600) or 0
        store.fleet.set_replicas({"r0": ("http://r0", None), "r1": ("http://r1", None)})
        for replica in ("r0", "r1"):
            self.observe(replica)
        self.placer = Placer(store, planner=PlannerConfig(pins=pins), slots=Slots(2, 2), **options)  # type: ignore[arg-type]
        for number, name in enumerate("abc"):
            store.versions.add(name, f"sha256:{number:064x}", {}, actor="test")

    def observe(self, replica: str, *, healthy: bool = True) -> None:
        """Say how a replica is."""
        self.store.fleet.observe(replica, epoch=self.epoch, healthy=healthy, incarnation="1", reason=None)

    def stand(
        self, replica: str, ref: VersionRef, state: RegistrationState = "attested", at: float = 0
    ) -> None:
        """Have a version stand somewhere."""
        row = RegistrationRow(
            replica, ref, "1", "d", state, None, "it broke" if state == "failed" else None, at
        )
        self.store.fleet.set_registration(row, epoch=self.epoch)

    def place(
        self, *, leaving: tuple[str, ...] = (), others: tuple[VersionRef, ...] = (A, B, C)
    ) -> dict[str, set[VersionRef]]:
        """Take a turn."""
        needs = Needs(frozenset(), frozenset(), dict.fromkeys(others, 0.0))
        placed = self.placer.place(self.store.snapshot(), needs, leaving=leaving, epoch=self.epoch)
        return {replica: set(refs) for replica, refs in placed.items()}

    def homes(self) -> dict[VersionRef, tuple[str, ...]]:
        """The homes that are stored."""
        return self.store.placement.homes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    """A control store."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    yield ControlStore(database)
    database.close()


@pytest.fixture
def desk(store: ControlStore) -> Desk:
    """A desk."""
    return Desk(store)


def test_homes_are_stored_once(desk: Desk) -> None:
    """A decision that changes nothing writes nothing."""
    placed = desk.place()
    assert {ref for refs in placed.values() for ref in refs} == {A, B, C}
    assert desk.homes().keys() == {A, B, C}
    before = desk.store.generation()
    desk.place()
    assert desk.store.generation() == before


def test_a_replica_that_is_not_well_keeps_what_it_has(desk: Desk) -> None:
    """It gets no homes and loses nothing: it may only be slow."""
    desk.stand("r0", A)
    desk.stand("r0", B)
    desk.place()
    desk.observe("r0", healthy=False)
    placed = desk.place()
    assert placed["r0"] == {A, B}
    assert {home for homes in desk.homes().values() for home in homes} == {"r1"}


def test_a_replica_that_leaves_serves_until_others_do(desk: Desk) -> None:
    """What stands on it stays, nothing new comes, and homes move off it."""
    desk.stand("r0", A)
    placed = desk.place(leaving=("r0",))
    assert placed["r0"] == {A}
    assert {home for homes in desk.homes().values() for home in homes} == {"r1"}


def test_a_replica_that_nobody_has_seen_yet_is_counted_on(desk: Desk) -> None:
    """A fleet that has just been named gets its homes in the first turn; one that never came up does not."""
    desk.store.fleet.set_replicas({"r8": ("http://r8", None), "r9": ("http://r9", None)})
    desk.store.fleet.observe("r9", epoch=desk.epoch, healthy=False, incarnation=None, reason="refused")
    desk.place()
    assert {home for homes in desk.homes().values() for home in homes} == {"r8"}


def test_an_ask_displaces_the_least_recently_used(desk: Desk) -> None:
    """On a full fleet the version that was used least lately makes room; both are counted."""
    desk.store.fleet.set_replicas({"r0": ("http://r0", None)})
    desk.observe("r0")
    for ref in (A, B):
        desk.stand("r0", ref)
    desk.place(others=(A, B))
    now = time.time()
    usage = {"a@1": (1.0, now - 50), "b@1": (1.0, now - 5)}
    desk.store.placement.report_usage("w", usage, at=now)
    desk.store.placement.ask(C, stands_s=60)
    assert desk.place()["r0"] == {B, C}
    assert desk.homes()[A] == NOWHERE
    assert not build(desk.store.snapshot(), base_model="b", default_capture=Capture()).placement.get("a@1")
    assert desk.store.placement.counts() == {A: Counts(0, 1), C: Counts(1, 0)}
    desk.stand("r0", C)
    desk.place()
    assert desk.store.placement.asked() == []


def test_what_is_pinned_is_not_displaced(store: ControlStore) -> None:
    """A pinned version stands though nobody ever asks for it, and however many others wait for a place."""
    desk = Desk(store, pins=frozenset({A}))
    store.fleet.set_replicas({"r0": ("http://r0", None)})
    now = time.time()
    store.placement.report_usage("w", {"b@1": (50.0, now), "c@1": (50.0, now)}, at=now)
    store.fleet.beat(WorkerRow("w", 1, {"b@1": 1, "c@1": 1}, now))
    for _ in range(2):
        for ref in (B, C):
            store.placement.ask(ref, stands_s=60)
        placed = desk.place()["r0"]
        assert A in placed
        for ref in placed:
            desk.stand("r0", ref)


def test_what_is_in_flight_is_not_displaced(desk: Desk) -> None:
    """The version used least lately stays while a worker has requests of it in flight."""
    desk.store.fleet.set_replicas({"r0": ("http://r0", None)})
    desk.observe("r0")
    for ref in (A, B):
        desk.stand("r0", ref)
    now = time.time()
    usage = {"a@1": (1.0, now - 50), "b@1": (1.0, now - 5)}
    desk.store.placement.report_usage("w", usage, at=now)
    desk.store.fleet.beat(WorkerRow("w", 1, {"a@1": 1, "base": 4}, now))
    desk.store.placement.ask(C, stands_s=60)
    assert desk.place()["r0"] == {A, C}


@pytest.mark.parametrize(
    ("ref", "reason"), [(C, "it broke"), (VersionRef("z", 1), "it is retired")], ids=["failed", "retired"]
)
def test_hopeless_asks_are_refused(desk: Desk, ref: VersionRef, reason: str) -> None:
    """A version that failed everywhere, or that is not active, is refused with the reason."""
    for replica in ("r0", "r1"):
        desk.stand(replica, C, "failed")
    desk.store.placement.ask(ref, stands_s=60)
    desk.place()
    assert [ask.refusal for ask in desk.store.placement.asked()] == [reason]


def test_a_version_that_failed_on_one_replica_is_tried_on_the_other(desk: Desk) -> None:
    """As long as a replica is left on which it has not failed, those who wait go on waiting."""
    desk.stand("r0", C, "failed")
    desk.store.placement.ask(C, stands_s=60)
    desk.place()
    assert [ask.refusal for ask in desk.store.placement.asked()] == [None]
    assert desk.homes()[C] == ("r1",)


def test_a_refusal_does_not_outlive_its_reason(desk: Desk) -> None:
    """When the failure is forgotten, the next ask is a new one."""
    for replica in ("r0", "r1"):
        desk.stand(replica, C, "failed")
    desk.store.placement.ask(C, stands_s=60)
    desk.place()
    desk.store.fleet.remove_registration("r1", C, epoch=desk.epoch)
    desk.place()
    assert desk.store.placement.ask(C, stands_s=60).refusal is None


def test_asks_that_are_over_are_dropped(desk: Desk) -> None:
    """An ask that nobody has renewed loads nothing."""
    desk.store.placement.ask(C, stands_s=-1)
    desk.place()
    assert desk.store.placement.asked() == []


def test_another_controller_decides_nothing(desk: Desk) -> None:
    """A decision under an epoch that is over is not written."""
    desk.store.fleet.release(CONTROLLER, "test")
    with pytest.raises(LeaseLost):
        desk.place()
    assert desk.homes() == {}


@pytest.mark.parametrize("policy", ["everywhere", "hash"])
def test_the_policies_to_compare_with(store: ControlStore, policy: str) -> None:
    """Everything stands everywhere; by hash each name has one home, which stays when versions change."""
    desk = Desk(store, policy=policy)
    assert desk.place() == {"r0": {A, B, C}, "r1": {A, B, C}}
    homes = desk.homes()
    assert {len(replicas) for replicas in homes.values()} == ({1} if policy == "hash" else set())
    desk.place(others=(A, B, C, VersionRef("a", 2)))
    assert desk.homes().items() >= homes.items()


def test_waiting_ends_early_for_an_ask(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between turns ends when a version is asked for that the last turn had not heard of."""
    monkeypatch.setattr("gateway.controller.placer.WAKE_POLL_S", 0.001)

    async def work() -> bool:
        stop = asyncio.Event()
        waiting = asyncio.create_task(desk.placer.wait(stop, 60))
        await asyncio.sleep(0.01)
        early = waiting.done()
        desk.store.placement.ask(C, stands_s=60)
        async with asyncio.timeout(20):
            await waiting
        desk.place()
        heard = asyncio.create_task(desk.placer.wait(stop, 0.02))
        await heard
        stop.set()
        await desk.placer.wait(stop, 60)
        return early

    assert asyncio.run(work()) is False


# --- the planner -----------------------------------------------------------------------------------------


def test_homes_move_only_on_evidence_and_now_and_then() -> None:
    """Few requests are noise; with enough the balance is looked at now and then, whatever the clock does."""
    planner = Planner(PlannerConfig())
    few, many = {A: Usage(ENOUGH_REQUESTS / 2, 0)}, {A: Usage(ENOUGH_REQUESTS, 0)}
    looks = [
        planner.demand(Report(at=at, usage=usage)).steady
        for at, usage in (
            (100.0, few),
            (101.0, many),
            (102.0, many),
            (101.0 + BALANCE_EVERY_S, many),
            (50.0, many),  # the clock was set back
        )
    ]
    assert looks == [False, True, False, True, True]


def test_patience_and_stay_are_times() -> None:
    """Who waits for long enough is overdue; who was attested just now is fresh."""
    report = Report(at=100.0, waiting={A: 96.0, B: 99.0}, attested_at={B: 99.0, C: 90.0})
    demand = Planner(PlannerConfig(patience_s=3.0, stay_s=2.0)).demand(report)
    assert (demand.overdue, demand.fresh) == ({A}, {B})


def test_a_version_that_is_being_swapped_in_is_expected_to_get_its_share() -> None:
    """The load of a route's present arms goes to the spec's arms by share, until the spec is active."""
    old = (Arm(adapter="a@1", share=1.0),)
    new = (Arm(adapter="b@1", share=0.25), Arm(adapter="base", share=0.75))
    status = RouteStatus(state="active", active_generation=1, effective_arms=old)
    route = Route(name="r", spec=RouteSpec(arms=new), generation=2, status=status)
    usage = {A: Usage(120.0, 0.0)}
    assert expected_load([route], usage, half_life_s=60) == {B: pytest.approx(0.25 * 1.386, rel=0.01)}
    active = route.model_copy(update={"generation": 1})
    assert expected_load([active], usage) == {}
