"""Quarantine of replicas that keep failing: how many failures, for how long, and never the last one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.controller.clock import Clock
from gateway.controller.quarantine import FIRST_S, LONGEST_S, QUIET_S, Record
from gateway.core.routes import Capture
from gateway.routing.table import build
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine
from tests.gateway.controller_house import House


def struck(times: int, *, every_s: float = 1.0, start: float = 1000.0) -> Record:
    """The record after so many strikes."""
    record = Record()
    for number in range(times):
        record = record.struck(start + number * every_s)
    return record


@pytest.mark.parametrize(
    ("times", "every_s", "left_s"),
    [
        (2, 1.0, 0.0),
        (3, 1.0, FIRST_S),
        (4, 1.0, 2 * FIRST_S),
        (5, 1.0, 4 * FIRST_S),
        (50, 1.0, LONGEST_S),
        (50, QUIET_S, 0.0),
    ],
)
def test_how_long(times: int, every_s: float, left_s: float) -> None:
    """From the third strike on, twice as long each time; quiet times between strikes forget them."""
    record = struck(times, every_s=every_s)
    assert record.left_s(record.struck_at) == left_s


def test_a_clock_that_is_set_back_keeps_nobody_for_longer() -> None:
    """What is left is never more than the longest quarantine."""
    assert struck(3).left_s(-1e9) == LONGEST_S


def test_a_record_is_stored_and_read() -> None:
    """A record survives the store, and without strikes there is nothing to store."""
    record = struck(3).released(1010.0)
    assert Record.read(record.stored()) == record
    assert (Record().stored(), Record.read(None)) == (None, Record())


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    """Two engines."""
    with fake_engine.start() as one, fake_engine.start() as two:
        yield one, two


def test_a_replica_that_keeps_restarting_is_left_alone(
    tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """Until its time is over it gets its adapters and no traffic; the other goes on, and events tell both."""
    house = House(tmp_path, *engines)
    ref = house.add("support", seed=1)
    wall = [1_000_000.0]
    actions = ["replica.quarantined", "replica.released"]

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http, clock=Clock(wall=lambda: wall[0]))
            await controller.turn()
            for _ in range(3):
                assert house.states(ref) == {"replica-0": "attested", "replica-1": "attested"}
                engines[0].restart()
                await controller.turn()
            first = house.store.fleet.replicas()[0]
            assert (first.healthy, first.reason) == (False, "in quarantine: 3 failures in a row")
            table = build(house.store.snapshot(), base_model=BASE_MODEL, default_capture=Capture())
            assert table.placement[str(ref)] == ("replica-1",)
            assert table.engines["replica-0"].quarantined
            wall[0] += FIRST_S
            await controller.turn()
            assert house.states(ref) == {"replica-0": "attested", "replica-1": "attested"}

    asyncio.run(work())
    told = [event.action for event in house.store.events.rows() if event.subject == "replica-0"]
    assert told == actions[::-1]
    house.database.close()


def test_the_last_replica_is_never_in_quarantine(
    tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """However often it fails, the only one that works gets its adapters back at once."""
    house = House(tmp_path, engines[0])
    ref = house.add("support", seed=1)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            for _ in range(5):
                engines[0].restart()
                await controller.turn()
                assert house.states(ref) == {"replica-0": "attested"}

    asyncio.run(work())
    house.database.close()


def test_quarantine_ends_when_nobody_else_works(
    tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """The replica that was left alone steps in, with its adapters in place, when the other one fails."""
    house = House(tmp_path, *engines)
    house.add("support", seed=1)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            await controller.turn()
            for _ in range(3):
                engines[0].restart()
                await controller.turn()
            assert not house.store.fleet.replicas()[0].healthy
            engines[1].dead = True
            loads = len(engines[0].posts("/v1/load_lora_adapter"))
            for _ in range(3):
                await controller.turn()
            assert house.store.fleet.replicas()[0].healthy
            assert len(engines[0].posts("/v1/load_lora_adapter")) == loads

    asyncio.run(work())
    house.database.close()
