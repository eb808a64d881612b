"""Removing blobs: only of retired versions, only when no engine can need them, and never halfway."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import collect as module
from adapters.collect import ASIDE, RETENTION_S, collect
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec
from gateway.store import clock as store_clock
from gateway.store import versions as store_versions
from gateway.store.fleet import CONTROLLER
from gateway.store.holds import GRACE_S
from tests.gateway.controller_house import House

REF = VersionRef("support", 1)


class Turned:
    """Stands in for the module `time`; begins now, since files have times too."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Turned:
    """The clock of store and collector."""
    made = Turned()
    for each in (module, store_clock, store_versions):
        monkeypatch.setattr(each, "time", made)
    return made


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with one replica and support@1, whose route of that name is gone."""
    house = House(tmp_path)
    house.store.fleet.set_replicas({"r0": ("http://r0", None)})
    house.add("support", seed=1)
    house.store.routes.remove("support", actor="test")
    yield house
    house.database.close()


def retired(house: House, clock: Turned, *, seconds_ago: float = RETENTION_S + 1) -> None:
    """Retire the version, so long ago."""
    house.store.versions.retire(REF, actor="test")
    clock.now += seconds_ago


def run(house: House, *, dry_run: bool = False) -> list[str | None]:
    """Collect; why each blob stays."""
    found = collect(house.registry.root, house.store.holds, dry_run=dry_run)
    return [blob.kept_because for blob in found]


def epoch(house: House) -> int:
    """Take the controller's lease."""
    found = house.store.fleet.acquire(CONTROLLER, "test", ttl_s=30)
    assert found is not None
    return found


def test_an_active_version_stays(house: House, clock: Turned) -> None:
    """However old it is."""
    clock.now += 10 * RETENTION_S
    assert run(house) == ["support@1 is active"]
    assert house.registry.verify(house.store.versions.rows()[0].digest)


def test_a_retired_version_goes_after_a_while(house: House, clock: Turned) -> None:
    """It stays for the retention, a dry run removes nothing, and then it is gone."""
    retired(house, clock, seconds_ago=1)
    assert run(house) == ["support@1 was retired lately"]
    clock.now += RETENTION_S
    assert run(house, dry_run=True) == [None]
    assert house.blob(REF).is_dir()
    assert run(house) == [None]
    assert not house.blob(REF).exists()
    assert run(house) == []


def test_a_route_keeps_a_retired_version(house: House, clock: Turned) -> None:
    """What a route's spec names stays."""
    house.store.routes.put("r", RouteSpec(arms=(Arm(adapter=str(REF), share=1),)), actor="test")
    retired(house, clock)
    assert run(house) == ["the route r names it"]


def test_the_same_content_under_another_name_keeps_it(house: House, clock: Turned) -> None:
    """A blob goes with the last of its versions."""
    house.add("other", seed=1)
    retired(house, clock)
    assert run(house) == ["other@1 is active"]


@pytest.mark.parametrize("end", ["restarted", "removed", "moved"])
def test_an_engine_that_may_read_it_keeps_it(house: House, clock: Turned, end: str) -> None:
    """From before the load until the incarnation has ended, and for the grace after that."""
    fleet = house.store.fleet
    fleet.observe("r0", epoch=epoch(house), healthy=True, incarnation="1")
    digest = house.store.versions.rows()[0].digest
    house.store.holds.take("r0", "1", digest, epoch=epoch(house))
    retired(house, clock)
    assert run(house) == ["the engine of r0 may still read it"]
    fleet.observe("r0", epoch=epoch(house), healthy=False, incarnation=None)
    assert run(house) == ["the engine of r0 may still read it"]
    if end == "restarted":
        fleet.observe("r0", epoch=epoch(house), healthy=True, incarnation="2")
    else:
        fleet.set_replicas({} if end == "removed" else {"r0": ("http://elsewhere", None)})
    assert run(house) == ["an engine of r0 that could read it has ended only lately"]
    clock.now += GRACE_S + 1
    assert run(house) == [None]
    assert house.store.holds.rows() == []


def test_adding_again_meanwhile_brings_it_back(
    house: House, clock: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An add whose blob is taken away between its check and its number stores it anew."""
    retired(house, clock)
    add = house.store.versions.add

    def slow_add(*args: object, **options: object) -> object:
        assert run(house) == [None]
        return add(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(house.store.versions, "add", slow_add)
    assert house.add("support", seed=1) == REF
    assert house.registry.verify(house.store.versions.rows()[0].digest)


def test_adding_again_during_the_judgement_saves_it(
    house: House, clock: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that turns out to be needed once it is aside is put back."""
    retired(house, clock)
    holds, calls = house.store.holds, []
    claim = holds.claim

    def slow_claim(digest: str, *, retired_for_s: float) -> str | None:
        calls.append(digest)
        if len(calls) == 2:
            house.add("other", seed=1)
        return claim(digest, retired_for_s=retired_for_s)

    monkeypatch.setattr(holds, "claim", slow_claim)
    assert run(house) == ["other@1 is active"]
    assert house.registry.verify(house.store.versions.rows()[0].digest)


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_crash_left_aside_is_judged_again(house: House, clock: Turned, wanted: bool) -> None:
    """It is put back when it is needed, and removed when not."""
    place = house.blob(REF)
    if not wanted:
        retired(house, clock)
    place.rename(place.with_name(ASIDE + place.name))
    assert run(house) == (["support@1 is active"] if wanted else [None])
    assert place.is_dir() is wanted


def test_a_blob_without_a_version_goes_when_it_is_old(house: House, clock: Turned) -> None:
    """Somebody may just be adding it; what an add that was cut short left goes later."""
    orphan = house.registry.root / "blobs" / ("0" * 64)
    orphan.mkdir()
    os.utime(orphan, (clock.now, clock.now))
    assert run(house) == ["it is new", "support@1 is active"]
    clock.now += RETENTION_S + 1
    assert run(house) == [None, "support@1 is active"]
    assert not orphan.exists()
