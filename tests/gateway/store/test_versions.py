"""Numbering, identity by digest, the first route, and retirement."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec, RouteStatus
from gateway.store.control import ControlStore
from gateway.store.uses import VersionInUse, VersionsNotActive
from gateway.store.versions import VersionFacts, Versions
from tests.gateway.store.conftest import Clock


def add(control: ControlStore, name: str, digest: str) -> tuple[VersionRef, bool]:
    """Add a version and return it with whether it is new."""
    row, new = control.versions.add(name, digest, {"rank": 4}, actor="me")
    return row.ref, new


def test_numbers_count_up_for_each_name(control: ControlStore) -> None:
    """Each name has its own numbers from 1; the manifest gets name and number."""
    assert add(control, "a", "d1") == (VersionRef("a", 1), True)
    assert add(control, "a", "d2") == (VersionRef("a", 2), True)
    assert add(control, "b", "d1") == (VersionRef("b", 1), True)
    row = control.versions.get(VersionRef("a", 2))
    assert row is not None
    assert (row.digest, row.manifest) == ("d2", {"rank": 4, "name": "a", "version": 2})
    assert control.versions.get(VersionRef("a", 3)) is None


def test_the_same_content_is_the_same_version(control: ControlStore) -> None:
    """Adding a digest again numbers nothing and leaves no event."""
    add(control, "a", "d1")
    before = control.generation()
    assert add(control, "a", "d1") == (VersionRef("a", 1), False)
    assert control.generation() == before
    assert len(control.events.rows("a@1")) == 1


def test_a_number_is_never_used_again(control: ControlStore) -> None:
    """After a retirement the next content gets the next number."""
    add(control, "a", "d1")
    add(control, "a", "d2")
    assert control.versions.retire(VersionRef("a", 2), actor="me")
    assert add(control, "a", "d3") == (VersionRef("a", 3), True)


def test_a_retired_version_comes_back_under_its_number(control: ControlStore) -> None:
    """The same content again makes a retired version active, with an event."""
    add(control, "a", "d1")
    control.versions.retire(VersionRef("a", 1), actor="me")
    row, new = control.versions.add("a", "d1", {}, actor="you", why="needed after all")
    assert (row.ref, row.retired_at, new) == (VersionRef("a", 1), None, False)
    newest = control.events.rows("a@1")[0]
    assert (newest.action, newest.actor, newest.why) == ("adapter.restore", "you", "needed after all")
    assert VersionRef("a", 1) in control.snapshot().versions


def test_concurrent_adds_get_different_numbers(control: ControlStore) -> None:
    """Twelve contents added at once get the numbers 1 to 12; one content added at once gets one."""
    with ThreadPoolExecutor(12) as pool:
        refs = list(pool.map(lambda n: add(control, "a", f"d{n}")[0].version, range(12)))
        same = list(pool.map(lambda _: add(control, "b", "d"), range(12)))
    assert sorted(refs) == list(range(1, 13))
    assert {ref for ref, _ in same} == {VersionRef("b", 1)}
    assert [new for _, new in same].count(True) == 1


def test_the_first_version_gets_a_route(control: ControlStore) -> None:
    """A new name gets a route of that name with all traffic; later versions change nothing."""
    add(control, "a", "d1")
    route = control.routes.get("a")
    assert route is not None
    assert route.spec.arms == (Arm(adapter="a@1", share=1.0),)
    assert route.status == RouteStatus()
    add(control, "a", "d2")
    assert control.routes.get("a") == route
    mine = RouteSpec(arms=(Arm(adapter="base", share=1.0),))
    control.routes.put("b", mine, actor="me")
    add(control, "b", "d1")
    known = control.routes.get("b")
    assert known is not None
    assert known.spec == mine


def test_listing(control: ControlStore) -> None:
    """Versions come by name, the newest first within a name, in pages."""
    for name, digest in (("b", "1"), ("a", "1"), ("a", "2")):
        add(control, name, digest)
    assert [str(row.ref) for row in control.versions.rows()] == ["a@2", "a@1", "b@1"]
    assert [str(row.ref) for row in control.versions.rows("a")] == ["a@2", "a@1"]
    assert [str(row.ref) for row in control.versions.rows(limit=1, offset=1)] == ["a@1"]


def test_retiring(control: ControlStore, clock: Clock) -> None:
    """A version is retired once; the snapshot leaves it out."""
    ref, _ = add(control, "a", "d1")
    clock.now = 2000.0
    assert control.versions.retire(ref, actor="me", why="poor")
    assert not control.versions.retire(ref, actor="me")
    assert not control.versions.retire(VersionRef("a", 9), actor="me")
    row = control.versions.get(ref)
    assert row is not None
    assert row.retired_at == 2000.0
    assert control.snapshot().versions == frozenset()


def test_a_used_version_is_not_retired(control: ControlStore) -> None:
    """A version that a spec names, or that traffic still meets, stays active when only unused ones may go."""
    one, _ = add(control, "a", "d1")
    two, _ = add(control, "a", "d2")
    with pytest.raises(VersionInUse) as caught:
        control.versions.retire(one, actor="me", unused_only=True)
    assert caught.value.routes == ("a",)
    route = control.routes.get("a")
    assert route is not None
    active = RouteStatus(state="active", effective_arms=route.spec.arms)
    control.routes.set_status("a", active, generation=route.generation, actor="c")
    control.routes.put("a", RouteSpec(arms=(Arm(adapter=str(two), share=1.0),)), actor="me")
    with pytest.raises(VersionInUse):
        control.versions.retire(one, actor="me", unused_only=True)
    row = control.versions.get(one)
    assert row is not None
    assert row.retired_at is None


def test_a_route_and_a_retirement_exclude_each_other(control: ControlStore) -> None:
    """Whichever of the two comes first, no route ends up with a retired version."""
    for number in range(8):
        ref, _ = add(control, "a", f"d{number}")
        spec = RouteSpec(arms=(Arm(adapter=str(ref), share=1.0),))

        def route(spec: RouteSpec = spec) -> bool:
            try:
                control.routes.put("x", spec, actor="me", active_versions_only=True)
            except VersionsNotActive:
                return False
            return True

        def retire(ref: VersionRef = ref) -> bool:
            try:
                return control.versions.retire(ref, actor="me", unused_only=True)
            except VersionInUse:
                return False

        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(route), pool.submit(retire)]
            assert [one.result() for one in done].count(True) == 1
        control.routes.remove("x", actor="me")


def test_the_active_versions_follow_every_change(control: ControlStore, clock: Clock) -> None:
    """A store that has read before and one that never has agree after each add, retirement and return."""
    changes = random.Random(7)
    digests: dict[VersionRef, str] = {}
    for step in range(120):
        clock.now += 0.001
        name = changes.choice("abc")
        if changes.random() < 0.5 or not digests:
            ref, _ = add(control, name, digest := f"d{step}")
            digests[ref] = digest
        else:
            ref = changes.choice(sorted(digests))
            if not control.versions.retire(ref, actor="me"):
                assert add(control, ref.name, digests[ref]) == (ref, False)
        assert control.versions.active() == Versions(control.database).active()
    assert control.versions.active() is control.versions.active()
    assert control.versions.facts().keys() == digests.keys()


def test_facts_and_content(control: ControlStore, clock: Clock) -> None:
    """Facts are there without manifests, of retired versions too; content is known whoever has it."""
    ref, _ = add(control, "a", "d1")
    control.versions.retire(ref, actor="me")
    assert control.versions.facts() == {ref: VersionFacts("d1", clock.now)}
    assert control.versions.has_digest("d1")
    assert not control.versions.has_digest("d2")


def test_pages_after_a_version(control: ControlStore) -> None:
    """A page goes on behind any version, also one that is not there."""
    for name in ("a", "b"):
        for number in range(3):
            add(control, name, f"{name}{number}")

    def after(name: str, version: int, **more: int) -> list[str]:
        return [str(row.ref) for row in control.versions.rows(after=VersionRef(name, version), **more)]

    assert after("a", 3, limit=3) == ["a@2", "a@1", "b@3"]
    assert after("a", 1) == ["b@3", "b@2", "b@1"]
    assert after("a", 99)[0] == "a@3"
    assert after("aa", 1)[0] == "b@3"
    assert after("b", 1) == []
