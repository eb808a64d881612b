"""The controller's loop: several replicas, several controllers, a lease that goes, a store that is away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.controller.lease import Lease
from gateway.store.fleet import CONTROLLER, LeaseLost
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House, until

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
    engine.knobs.load_delay_s = 0.2

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            frozen = house.controller(http, holder="one")
            turn = asyncio.create_task(frozen.turn())
            await until(lambda: bool(engine.posts(LOAD)), what="a load is under way")
            house.store.fleet.release(CONTROLLER, "one")
            assert house.store.fleet.acquire(CONTROLLER, "two", ttl_s=30) is not None
            with pytest.raises(LeaseLost):
                await turn

    asyncio.run(work())
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
