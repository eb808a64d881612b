"""The controller's loop: several replicas, several controllers, a lease that goes, a store that is away."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, update

from gateway.controller.clock import Clock
from gateway.controller.lease import Lease
from gateway.store.fleet import CONTROLLER, LeaseLost
from gateway.store.schema import answers, routes
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.fake_engine_http import Request
from tests.gateway.controller_house import House, until

pytestmark = pytest.mark.slow

LOAD = "/v1/load_lora_adapter"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One engine."""
    with fake_engine.start() as engine:
        yield engine


@pytest.fixture
def other() -> Iterator[FakeEngine]:
    """A second engine."""
    with fake_engine.start() as engine:
        yield engine


@pytest.fixture
def house(tmp_path: Path, engine: FakeEngine) -> Iterator[House]:
    """A house with one engine."""
    house = House(tmp_path, engine)
    yield house
    house.database.close()


@pytest.fixture
def pair(tmp_path: Path, engine: FakeEngine, other: FakeEngine) -> Iterator[House]:
    """A house with two engines."""
    house = House(tmp_path, engine, other)
    yield house
    house.database.close()


def test_a_failing_engine_is_unhealthy_alone(pair: House, engine: FakeEngine) -> None:
    """Two failed looks make a replica unhealthy, the other goes on, and one success brings it back."""
    pair.add("support", seed=1)
    pair.turns(min_ready=2)
    engine.dead = True

    def healthy() -> list[bool]:
        return [row.healthy for row in pair.store.fleet.replicas()]

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = pair.controller(http, min_ready=2)
            await controller.turn()
            assert healthy() == [True, True]
            await controller.turn()
            assert healthy() == [False, True]
            second = pair.add("support", seed=2)
            pair.put("support", "support@2")
            await controller.turn()
            assert pair.states(second) == {"replica-1": "attested"}
            assert pair.arms("support") == ["support@2"]
            engine.restart()
            await controller.turn()
            await controller.turn()
            assert healthy() == [True, True]
            assert pair.states(second) == {"replica-0": "attested", "replica-1": "attested"}

    asyncio.run(work())
    assert pair.store.fleet.replicas()[0].reason is None


def test_a_slow_replica_holds_up_no_other(pair: House, engine: FakeEngine) -> None:
    """A replica that is busy loading does not keep a route from flipping where it is ready."""
    ref = pair.add("support", seed=1)
    engine.knobs.load_delay_s = 60.0

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = pair.controller(http)
            stop = asyncio.Event()
            running = asyncio.create_task(controller.run(stop))
            await until(lambda: pair.arms("support") == ["support@1"], what="the route flips")
            stop.set()
            await running

    asyncio.run(work())
    assert pair.states(ref) == {"replica-1": "attested"}


def test_min_ready_counts_attested_replicas(pair: House, engine: FakeEngine) -> None:
    """With min_ready 2 a version that fails on one of two replicas does not get the route."""
    pair.add("support", seed=1)
    engine.knobs.unapplied = {"support@1"}
    pair.turns(min_ready=2)
    status = pair.route("support").status
    assert (status.state, status.effective_arms) == ("failed", ())
    assert (status.reason or "").startswith("support@1 on replica-0: it answers like the base")
    pair.turns(min_ready=1)
    assert pair.arms("support") == ["support@1"]


def test_one_controller_is_effective(house: House, engine: FakeEngine) -> None:
    """The second controller waits; when the first gives the lease back, it takes over."""
    house.add("support", seed=1)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            first, second = (house.controller(http, holder=name) for name in ("one", "two"))
            assert await first.turn()
            assert not await second.turn()
            assert await first.turn()
            house.store.fleet.release(CONTROLLER, "one")
            assert await second.turn()
            assert not await first.turn()

    asyncio.run(work())
    assert len(engine.posts(LOAD)) == 1


def test_a_lease_lost_midway_writes_nothing(house: House, engine: FakeEngine) -> None:
    """A controller whose lease went to another during a load records nothing and takes no further step."""
    house.add("support", seed=1)
    epochs: list[int | None] = []

    def lose(request: Request) -> None:
        if request.path == LOAD:
            house.store.fleet.release(CONTROLLER, "one")
            epochs.append(house.store.fleet.acquire(CONTROLLER, "two", ttl_s=30))

    engine.on_request = lose

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            with pytest.raises(LeaseLost):
                await house.controller(http, holder="one").turn()

    asyncio.run(work())
    assert epochs == [2]
    assert house.rows() == []
    assert engine.posts("/v1/completions") == []
    assert house.route("support").status.state == "preparing"


def test_a_frozen_controller_calls_no_engine(house: House, engine: FakeEngine) -> None:
    """A term that ran out on the process's own clock stops the next call before it leaves."""
    clock = [0.0]
    lease = Lease(house.store.fleet, holder="one", ttl_s=5.0, clock=lambda: clock[0])
    epoch = lease.take()
    assert epoch is not None
    lease.check(epoch)
    clock[0] = 5.0
    with pytest.raises(LeaseLost):
        lease.check(epoch)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            ticking = Lease(house.store.fleet, holder="one", ttl_s=5.0, clock=lambda: clock[0])
            controller = house.controller(http, lease=ticking)
            take = ticking.take

            def slow_take() -> int | None:
                taken = take()
                clock[0] += 6.0  # frozen right after the store answered
                return taken

            ticking.take = slow_take  # type: ignore[method-assign]
            with pytest.raises(LeaseLost):
                await controller.turn()

    asyncio.run(work())
    assert engine.received == []


def test_the_loop_survives_a_store_that_is_down(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away nothing ends; then the work goes on, and stopping frees the lease."""
    monkeypatch.setattr("gateway.controller.loop.LONGEST_PAUSE_S", 0.05)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            stop = asyncio.Event()
            running = asyncio.create_task(controller.run(stop))
            await until(lambda: house.store.fleet.replicas()[0].healthy, what="the engine is seen")
            house.database.down = True
            await until(lambda: controller.failed_turns >= 3, what="turns fail")
            house.database.down = False
            house.add("support", seed=1)
            await until(lambda: house.arms("support") == ["support@1"], what="the route is served")
            stop.set()
            await running

    asyncio.run(work())
    held = house.store.fleet.controller()
    assert held is not None
    assert held[2] == 0.0


def test_a_fault_of_ours_in_one_replica_stays_there(
    pair: House, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception nobody foresaw is counted and logged, and the other replica is tended."""
    from gateway.controller.engine_api import EngineApi

    ref = pair.add("support", seed=1)
    load = EngineApi.load

    async def broken(self: EngineApi, name: str, path: str) -> None:
        if self._url == engine.url:
            raise RuntimeError("a bug")
        await load(self, name, path)

    monkeypatch.setattr(EngineApi, "load", broken)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = pair.controller(http)
            await controller.turn()
            assert controller.failed_turns == 1

    asyncio.run(work())
    assert pair.states(ref) == {"replica-1": "attested"}
    assert pair.arms("support") == ["support@1"]


def test_a_replica_that_moves_is_met_at_its_new_address(house: House, other: FakeEngine) -> None:
    """When a replica's URL changes, what was registered at the old one is not believed."""
    ref = house.add("support", seed=1)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            await controller.turn()
            house.store.fleet.set_replicas({"replica-0": (other.url, None)})
            await controller.turn()

    asyncio.run(work())
    assert other.adapters == ["support@1"]
    assert house.states(ref) == {"replica-0": "attested"}


def test_a_flip_says_what_it_rests_on_and_what_was_before(house: House) -> None:
    """Its event names the replicas that were ready, the generation before, and the arms before and after."""
    house.add("support", seed=1)
    house.turns()
    first = house.route("support").generation
    house.add("support", seed=2)
    house.put("support", "support@2")
    house.turns()
    flip = next(event for event in house.store.events.rows("support") if event.action == "route.flip")
    assert (flip.actor, flip.why) == ("controller", "attested: support@2 on 1 replicas")
    assert flip.generation_before == first
    assert flip.before["effective_arms"][0]["adapter"] == "support@1"
    assert flip.after["effective_arms"][0]["adapter"] == "support@2"


def test_a_stored_spec_that_breaks_a_check_holds_up_nobody(house: House) -> None:
    """Its route serves on and says why it is not acted on, once; other routes are settled as ever."""
    house.add("support", seed=1)
    house.turns()
    broken = {**house.route("support").spec.model_dump(mode="json"), "sticky": "moon"}
    with house.store.database.write() as connection:
        connection.execute(update(routes).where(routes.c.name == "support").values(spec=broken))
    house.add("other", seed=2)
    house.turns(3)
    assert (house.arms("support"), house.arms("other")) == (["support@1"], ["other@1"])
    status = house.route("support").status
    assert (status.state, "sticky" in (status.reason or "")) == ("active", True)
    actions = [event.action for event in house.store.events.rows("support")]
    assert actions.count("route.fault") == 1


def test_what_a_rollback_needs_stays_while_there_is_room(house: House, engine: FakeEngine) -> None:
    """The version of before the flip goes before newer ones that nothing needs; a rollback is a flip."""
    house.add("support", seed=1)
    house.turns()
    for seed in range(2, 6):
        house.add("other", seed=seed)
    house.add("support", seed=6)
    house.put("support", "support@2")
    house.turns(3, slots=3)
    assert sorted(engine.adapters) == ["other@1", "support@1", "support@2"]
    loads = len(engine.posts(LOAD))
    house.put("support", "support@1")
    house.turns(slots=3)
    assert house.arms("support") == ["support@1"]
    assert len(engine.posts(LOAD)) == loads


@pytest.mark.parametrize("successor", [False, True], ids=["same-controller", "its-successor"])
def test_files_that_change_take_a_version_out_at_once(house: House, successor: bool) -> None:
    """Not only at the next proof: an engine may read them again at any time. Mended, it is served again."""
    ref = house.add("support", seed=1)
    weights = house.blob(ref) / "adapter_model.safetensors"
    good = weights.read_bytes()
    clock = [1_000_000.0]

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http, clock=Clock(wall=lambda: clock[0]))
            await controller.turn()
            weights.chmod(0o644)
            weights.write_bytes(good[:-1] + b"\xff")
            if successor:
                house.store.fleet.release(CONTROLLER, "one")
                controller = house.controller(http, holder="two", clock=Clock(wall=lambda: clock[0]))
            await controller.turn()
            assert house.states(ref) == {"replica-0": "failed"}
            weights.write_bytes(good)
            clock[0] += 60
            await controller.turn()
            assert house.states(ref) == {"replica-0": "attested"}

    asyncio.run(work())


def test_a_load_is_preceded_by_a_hold(house: House, engine: FakeEngine) -> None:
    """A controller that dies during a load leaves word of which blob the engine may read."""
    ref = house.add("support", seed=1)
    held: list[str] = []
    engine.on_request = lambda request: (
        held.extend(hold.digest for hold in house.store.holds.rows()) if request.path == LOAD else None
    )
    house.turns()
    row = house.store.versions.get(ref)
    assert row is not None
    assert held == [row.digest]
    engine.on_request = None
    engine.restart()
    house.turns()
    ended = {hold.incarnation: hold.ended_at is not None for hold in house.store.holds.rows()}
    assert sorted(ended.values()) == [False, True]
    assert not ended[engine.incarnation]


def test_answers_of_versions_that_are_gone_are_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded of a version goes once it is retired, its route gone and its retention over."""
    monkeypatch.setattr("gateway.controller.loop.COLLECT_EVERY_S", 0.0)
    ref = house.add("support", seed=1)

    def recorded() -> int:
        with house.database.read() as connection:
            return len(connection.execute(select(answers)).all())

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            controller._config = replace(controller._config, blob_retention_s=0.0)
            stop = asyncio.Event()
            running = asyncio.create_task(controller.run(stop))
            try:
                await until(lambda: house.states(ref) == {"replica-0": "attested"}, what="it is attested")
                assert recorded() == 1
                house.store.routes.remove("support", actor="test")
                house.store.versions.retire(ref, actor="test")
                await until(lambda: recorded() == 0, what="its answers are forgotten")
            finally:
                stop.set()
                await running
            assert controller.failed_turns == 0

    asyncio.run(work())
