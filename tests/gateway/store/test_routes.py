"""Route specs and their status, and the audit log that every change leaves."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec, RouteStatus
from gateway.store.control import ControlStore
from gateway.store.fleet import CONTROLLER, LeaseLost
from gateway.store.routes import GenerationMismatch
from gateway.store.uses import VersionsNotActive
from tests.gateway.store.conftest import Clock


def spec(*labels: str) -> RouteSpec:
    """Return a spec with equal shares for these arms."""
    return RouteSpec(arms=tuple(Arm(adapter=label, share=1 / len(labels)) for label in labels))


def test_a_new_route_is_preparing(control: ControlStore) -> None:
    """A first spec gets a generation and the status of a route that serves nothing yet."""
    route, changed = control.routes.put("r", spec("base"), actor="me")
    assert changed
    assert route.generation == control.generation() == 1
    assert route.status == RouteStatus()
    assert control.routes.get("r") == route
    assert control.routes.rows() == [route]
    assert control.routes.get("none") is None


def test_routes_are_counted_by_state(control: ControlStore) -> None:
    """Each state that a route is in has their number; without routes there is none."""
    assert control.routes.states() == {}
    for name in ("a", "b", "c"):
        route, _ = control.routes.put(name, spec("base"), actor="me")
    control.routes.set_status("c", RouteStatus(state="active"), generation=route.generation, actor="c")
    assert control.routes.states() == {"preparing": 2, "active": 1}


def test_the_same_spec_is_a_no_op(control: ControlStore) -> None:
    """Neither generation nor status nor audit log moves."""
    route, _ = control.routes.put("r", spec("base"), actor="me")
    active = RouteStatus(state="active", active_generation=1, effective_arms=route.spec.arms, canary_step=2)
    control.routes.set_status("r", active, generation=1, actor="c")
    before = control.generation(), control.events.rows()
    again, changed = control.routes.put("r", spec("base"), actor="me")
    assert (again.status, changed) == (active, False)
    assert (control.generation(), control.events.rows()) == before


def test_a_new_spec_keeps_what_traffic_meets(control: ControlStore) -> None:
    """While it is prepared, the effective arms and the active generation are those of before."""
    route, _ = control.routes.put("r", spec("base"), actor="me")
    active = RouteStatus(state="active", active_generation=1, effective_arms=route.spec.arms, reason="x")
    control.routes.set_status("r", active, generation=route.generation, actor="c")
    route, changed = control.routes.put("r", spec("a@1", "base"), actor="me")
    assert changed
    assert route.status == active.model_copy(update={"state": "preparing", "reason": None})


def test_if_generation(control: ControlStore) -> None:
    """A spec replaces only the generation that the caller has seen."""
    with pytest.raises(GenerationMismatch) as caught:
        control.routes.put("r", spec("base"), actor="me", if_generation=1)
    assert caught.value.current is None
    route, _ = control.routes.put("r", spec("base"), actor="me")
    with pytest.raises(GenerationMismatch) as caught:
        control.routes.put("r", spec("a@1"), actor="me", if_generation=route.generation + 1)
    assert caught.value.current == route.generation
    assert control.routes.get("r") == route
    control.routes.put("r", spec("a@1"), actor="me", if_generation=route.generation)


def test_only_active_versions(control: ControlStore) -> None:
    """Unknown and retired versions are told apart; nothing is stored."""
    for digest in ("1", "2"):
        control.versions.add("a", digest, {}, actor="me")
    control.versions.retire(VersionRef("a", 2), actor="me")
    with pytest.raises(VersionsNotActive) as caught:
        control.routes.put("r", spec("a@1", "a@2", "a@3"), actor="me", active_versions_only=True)
    assert caught.value.unknown == (VersionRef("a", 3),)
    assert caught.value.retired == (VersionRef("a", 2),)
    assert control.routes.get("r") is None


def test_a_status_belongs_to_a_generation(control: ControlStore) -> None:
    """The status of a spec that was replaced meanwhile, or of no route, is not written."""
    route, _ = control.routes.put("r", spec("base"), actor="me")
    control.routes.put("r", spec("a@1"), actor="me")
    active = RouteStatus(state="active", effective_arms=route.spec.arms)
    assert not control.routes.set_status("r", active, generation=route.generation, actor="c")
    assert not control.routes.set_status("none", active, generation=1, actor="c")


def test_what_a_status_leaves_in_the_log(control: ControlStore) -> None:
    """A flip and a new state are events; a new reason is a generation alone; nothing new is nothing."""
    route, _ = control.routes.put("r", spec("base"), actor="me")
    steps = [
        (RouteStatus(state="attesting"), "route.attesting"),
        (RouteStatus(state="attesting", reason="probes"), None),
        (RouteStatus(state="active", effective_arms=route.spec.arms), "route.flip"),
        (RouteStatus(state="failed", effective_arms=route.spec.arms, reason="gone"), "route.failed"),
    ]
    for status, action in steps:
        before = control.generation(), len(control.events.rows())
        assert control.routes.set_status("r", status, generation=route.generation, actor="c")
        assert control.generation() == before[0] + 1
        assert len(control.events.rows()) == before[1] + (action is not None)
        if action:
            assert control.events.rows()[0].action == action
        assert control.routes.set_status("r", status, generation=route.generation, actor="c")
        assert control.generation() == before[0] + 1


def test_a_status_under_a_lost_lease(control: ControlStore, clock: Clock) -> None:
    """A controller whose term is over writes nothing."""
    route, _ = control.routes.put("r", spec("base"), actor="me")
    epoch = control.fleet.acquire(CONTROLLER, "c", ttl_s=5)
    assert epoch is not None
    clock.now += 6
    with pytest.raises(LeaseLost):
        control.routes.set_status(
            "r", RouteStatus(state="active"), generation=route.generation, actor="c", epoch=epoch
        )
    assert control.routes.get("r") == route


def test_removing(control: ControlStore) -> None:
    """A route is removed once, and its log stays with the spec that it had."""
    control.routes.put("r", spec("base"), actor="me")
    assert control.routes.remove("r", actor="me", why="over")
    assert not control.routes.remove("r", actor="me")
    newest = control.events.rows("r")[0]
    assert (newest.action, newest.why, newest.generation_before) == ("route.delete", "over", 1)
    assert newest.before["arms"] == [{"adapter": "base", "share": 1.0}]


def test_the_log(control: ControlStore, clock: Clock) -> None:
    """Events say who, when, what and why, with the documents before and after; they page backwards."""
    control.routes.put("r", spec("base"), actor="me", why="first")
    clock.now += 1
    control.routes.put("r", spec("a@1"), actor="you", action="route.promote")
    control.events.add(actor="loop", action="note", subject="q", after={"x": 1})
    note, second, first = control.events.rows()
    assert (first.actor, first.at, first.why, first.before) == ("me", 1000.0, "first", None)
    assert (second.actor, second.at, second.action) == ("you", 1001.0, "route.promote")
    assert (second.generation_before, second.generation) == (1, 2)
    assert second.before == first.after
    assert note.after == {"x": 1}
    assert control.events.rows("r", limit=1) == [second]
    assert control.events.rows("r", before_id=second.id) == [first]


def test_generations_never_repeat(control: ControlStore) -> None:
    """Every change has a generation of its own, in the order of the changes."""
    for number in range(5):
        control.routes.put("r", spec(f"a@{number + 1}"), actor="me")
        control.routes.put("s", spec(f"a@{number + 1}"), actor="me")
    seen = [event.generation for event in control.events.rows()]
    assert seen == sorted(set(seen), reverse=True)  # type: ignore[type-var]
    assert control.snapshot().generation == seen[0]


def test_routes_that_did_not_change_are_not_read_again(control: ControlStore) -> None:
    """The list follows specs, status and removal; a route whose row reads the same is the same object."""
    for name in ("a", "b", "c"):
        control.routes.put(name, spec("base"), actor="me")
    before = control.routes.rows()
    route = before[1]
    active = RouteStatus(state="active", active_generation=route.generation, effective_arms=route.spec.arms)
    control.routes.set_status("b", active, generation=route.generation, actor="c")
    control.routes.remove("c", actor="me")
    after = control.routes.rows()
    assert [route.name for route in after] == ["a", "b"]
    assert after[0] is before[0]
    assert after[1].status == active
    assert after == ControlStore(control.database).routes.rows()


def test_of_several_decisions_at_once_one_is_written(control: ControlStore) -> None:
    """Whoever decides from the same status, a person or the controller, only the first of them is right."""
    route, _ = control.routes.put("r", spec("base"), actor="me")

    def decide(number: int) -> bool:
        status = route.status.model_copy(update={"reason": f"as {number} says"})
        return control.routes.set_status(
            "r", status, generation=route.generation, actor="x", instead_of=route.status
        )

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(decide, range(8))) == 1


def test_specs_that_are_put_at_once(control: ControlStore) -> None:
    """A route that several make at the same moment is made once, and the last spec is the one that stays."""

    def put(number: int) -> int:
        return control.routes.put("r", spec("base", f"a@{number + 1}"), actor="x")[0].generation

    with ThreadPoolExecutor(8) as pool:
        generations = set(pool.map(put, range(8)))
    route = control.routes.get("r")
    assert route is not None
    assert (len(generations), route.generation) == (8, max(generations))
