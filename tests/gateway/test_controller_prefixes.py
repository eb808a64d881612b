"""Homes are for prefix caches: where no engine has one, traffic goes to all that serve a version."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.core.routes import Capture
from gateway.routing.table import RoutingTable, build
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine
from tests.gateway.controller_house import House


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    """Two engines."""
    with fake_engine.start() as one, fake_engine.start() as two:
        yield one, two


CACHING = [((True, True), 1), ((True, False), 1), ((False, False), 0)]


@pytest.mark.parametrize(("caching", "preferred"), CACHING)
def test_homes_are_for_prefix_caches(
    tmp_path: Path, engines: tuple[FakeEngine, FakeEngine], caching: tuple[bool, bool], preferred: int
) -> None:
    """One engine that caches prefixes is enough for homes; with none, both replicas are alike."""
    for engine, caches in zip(engines, caching, strict=True):
        engine.knobs.caches_prefixes = caches
    house = House(tmp_path, *engines)
    ref = house.add("support", seed=1)

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            await controller.turn()
            await controller.turn()

    def table() -> RoutingTable:
        return build(house.store.snapshot(), base_model=BASE_MODEL, default_capture=Capture())

    asyncio.run(work())
    assert table().placement[str(ref)] == ("replica-0", "replica-1")
    assert len(table().homes.get(str(ref), ())) == preferred
    assert len(house.store.placement.homes()[ref]) == 1
    house.database.close()
