"""The controller and shadows: registered like any version that is used, drawn by nobody, in nobody's way."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.controller.clock import Clock
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec, Shadow
from gateway.store.uses import VersionInUse
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House

BUSY, IDLE, SHADOW = (VersionRef(name, 1) for name in ("busy", "idle", "shadow"))

LATER = Clock(wall=lambda: time.time() + 60.0)
"""When nothing on the engine has just been loaded any more."""


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One engine."""
    with fake_engine.start() as engine:
        yield engine


@pytest.fixture
def house(tmp_path: Path, engine: FakeEngine) -> Iterator[House]:
    """A house with three versions, of which one is another's shadow."""
    house = House(tmp_path, engine)
    for number, ref in enumerate((BUSY, IDLE)):
        house.add(ref.name, seed=number)
    house.turns(2, slots=2)  # both slots are taken now
    house.add(SHADOW.name, seed=5)
    for ref in (IDLE, SHADOW):  # a first version makes a route of its own
        house.store.routes.remove(ref.name, actor="test")
    spec = RouteSpec(arms=(Arm(adapter=str(BUSY), share=1),), shadow=Shadow(adapter=str(SHADOW), share=0.1))
    house.store.routes.put("busy", spec, actor="test")
    yield house
    house.database.close()


def used(house: House, **ages: float) -> None:
    """Say how long ago each version was used."""
    now = time.time()
    usage = {f"{name}@1": (1.0, now - age) for name, age in ages.items()}
    house.store.placement.report_usage("worker", usage, at=now)


def test_a_shadow_gets_a_place_once_it_is_used(house: House) -> None:
    """Nobody waits for a shadow; when requests are sampled for it, the least recently used makes room."""
    used(house, busy=1.0, idle=9.0)
    house.turns(3, slots=2, clock=LATER)
    assert house.states(SHADOW) == {}
    route = house.route("busy")
    assert (route.status.state, house.arms("busy")) == ("active", ["busy@1"])
    assert route.status.reason == "shadow: shadow@1 is ready on no replica"
    used(house, busy=1.0, idle=9.0, shadow=2.0)
    house.turns(4, slots=2, clock=LATER)
    assert house.states(SHADOW) == {"replica-0": "attested"}
    assert house.states(BUSY) == {"replica-0": "attested"}
    assert house.states(IDLE) == {}
    assert house.route("busy").status.reason is None
    assert house.arms("busy") == ["busy@1"]


def test_a_shadow_drives_out_nothing_that_was_used_later(house: House) -> None:
    """A shadow that was used before the others waits for a free slot."""
    used(house, busy=1.0, idle=2.0, shadow=9.0)
    house.turns(4, slots=2, clock=LATER)
    assert house.states(SHADOW) == {}
    house.turns(4, slots=3, clock=LATER)
    assert house.states(SHADOW) == {"replica-0": "attested"}


def test_a_shadow_is_in_use(house: House) -> None:
    """The version that a route names as its shadow is not retired."""
    with pytest.raises(VersionInUse):
        house.store.versions.retire(SHADOW, actor="test", unused_only=True)
