"""Routes whose stored documents break a check of today: they are read as far as they go, each by itself."""

from typing import Any

import pytest
from sqlalchemy import update

from gateway.controller.routes import FleetView, next_status
from gateway.core.canary import Canary
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, Capture, Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment, begun
from gateway.core.stored import read_route
from gateway.routing.table import build
from gateway.store.control import ControlStore
from gateway.store.schema import routes
from gateway.store.uses import VersionInUse, require_unused

ARMS = (Arm(adapter="a@1", share=0.5), Arm(adapter="b@1", share=0.5))
SPEC: dict[str, Any] = RouteSpec(arms=ARMS, metrics={"thumbs": {"type": "bool"}}).model_dump(mode="json")  # type: ignore[dict-item]
SERVING = RouteStatus(state="active", active_generation=1, effective_arms=ARMS)
OLD_METRIC = {"type": "bool", "better": "lower", "primary": False, "window_h": 72}

BROKEN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # a metric whose name is taken by now, one whose field is unknown, two that are primary
    ({"metrics": {"Thumbs!": OLD_METRIC, "thumbs": OLD_METRIC}}, {"metrics": ["thumbs"]}, "Thumbs!"),
    ({"metrics": {"x": {**OLD_METRIC, "later": 1}, "thumbs": OLD_METRIC}}, {"metrics": ["thumbs"]}, "later"),
    (
        {"metrics": {name: {**OLD_METRIC, "primary": True} for name in ("x", "y")}},
        {"metrics": []},
        "primary",
    ),
    ({"metrics": {"stars": {"type": "number", "primary": True}}}, {"metrics": []}, "range"),
    ({"canary": {"candidate": "c@1", "failures_in_a_row": 1}}, {"canary": None}, "failures_in_a_row"),
    ({"sticky": "moon"}, {"sticky": "subject"}, "sticky"),
    ({"from_a_newer_version": 1}, {}, "from_a_newer_version"),
    ({"capture": {"mode": "everything"}}, {"capture": Capture(mode="off", share=0)}, "capture"),
    ({"arms": [{"adapter": "a@1", "share": 2}]}, {"arms": ARMS}, "arms"),
    ({"arms": [], "metrics": 7, "canary": 3, "shadow": []}, {"arms": ARMS, "shadow": None}, "arms"),
]


@pytest.mark.parametrize(("changes", "kept", "named"), BROKEN)
def test_what_can_be_read_is_kept(changes: dict[str, Any], kept: dict[str, Any], named: str) -> None:
    """What breaks a check is left out and named; the arms that traffic meets are those of before."""
    found = read_route("r", 1, {**SPEC, **changes}, SERVING.model_dump(mode="json"))
    assert found.fault is not None
    assert named in found.fault
    assert (found.status, found.spec.arms) == (SERVING, ARMS)
    told = {**found.spec.model_dump(), "metrics": sorted(found.spec.metrics)}
    for name, value in kept.items():
        assert told[name] == (value.model_dump() if isinstance(value, Capture) else told_arms(value))


def told_arms(value: Any) -> Any:
    """Arms as documents; anything else as it is."""
    return tuple(arm.model_dump() for arm in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("spec", "status"), [(None, None), ([], "x"), ({}, {}), ({"arms": 1}, {"effective_arms": [{"share": 1}]})]
)
def test_rubbish_serves_nothing(spec: Any, status: Any) -> None:
    """Of a route of which nothing can be read no request is answered, by the base model neither."""
    found = read_route("r", 1, spec, status)
    assert found.fault is not None
    assert (found.spec.arms, found.status.effective_arms, found.spec.versions()) == ((), (), set())


def test_what_is_sound_has_no_fault() -> None:
    """A route that passes all checks is read as it is."""
    found = read_route("r", 1, SPEC, SERVING.model_dump(mode="json"))
    assert (found.fault, found.spec.arms, found.status) == (None, ARMS, SERVING)


def test_a_status_with_more_than_is_known() -> None:
    """Fields of a status that are not known are left out, and the traffic stays where it is."""
    found = read_route("r", 1, SPEC, {**SERVING.model_dump(mode="json"), "later": {"x": 1}})
    assert found.status == SERVING
    assert "later" in (found.fault or "")


def _store_raw(control: ControlStore, name: str, spec: Any) -> None:
    with control.database.write() as connection:
        connection.execute(update(routes).where(routes.c.name == name).values(spec=spec))


def _serving(control: ControlStore, name: str) -> Route:
    route, _ = control.routes.put(name, RouteSpec(arms=ARMS), actor="me")
    status = SERVING.model_copy(update={"active_generation": route.generation})
    control.routes.set_status(name, status, generation=route.generation, actor="c")
    return route


def test_one_bad_route_stops_no_table(control: ControlStore) -> None:
    """The table has every route, the bad one with its arms; it is named, and put anew it is well again."""
    for name in ("bad", "good"):
        _serving(control, name)
    _store_raw(control, "bad", {**SPEC, "metrics": {"Thumbs!": OLD_METRIC}})
    table = build(control.snapshot(), base_model="m", default_capture=Capture())
    assert {name: entry.arms for name, entry in table.routes.items()} == {"bad": ARMS, "good": ARMS}
    faults = {route.name: route.fault is not None for route in control.routes.rows()}
    assert faults == {"bad": True, "good": False}
    found = control.routes.get("bad")
    assert found is not None
    assert found == control.routes.rows()[0]
    mended, changed = control.routes.put("bad", found.spec, actor="me")
    assert (changed, mended.fault) == (True, None)
    before = control.events.rows("bad")[0].before
    assert before["metrics"] == {"Thumbs!": OLD_METRIC}


def test_what_an_unreadable_part_names_is_in_use(control: ControlStore) -> None:
    """A version that is named where nothing can be read is not retired."""
    _serving(control, "bad")
    _store_raw(control, "bad", {**SPEC, "canary": {"candidate": "c@1", "failures_in_a_row": 1}})
    with control.database.read() as connection:
        require_unused(connection, VersionRef("d", 1))
        with pytest.raises(VersionInUse):
            require_unused(connection, VersionRef("c", 1))


VIEW = FleetView(frozenset({"r1"}), {})


def _status(route: Route) -> RouteStatus:
    return next_status(route, VIEW, absent={}, min_ready=1, moment=Moment(0.0, 9))


def test_the_controller_acts_on_no_spec_with_a_fault() -> None:
    """One that is not in effect yet fails with the reason; one that is goes on, and its status says so."""
    route = Route(name="r", spec=RouteSpec(arms=ARMS), generation=2, status=SERVING, fault="broken")
    waiting = _status(route)
    assert (waiting.state, waiting.reason, waiting.effective_arms) == ("failed", "broken", ARMS)
    running = _status(route.model_copy(update={"generation": 1}))
    assert (running.state, running.effective_arms) == ("active", ARMS)
    assert (running.reason or "").startswith("broken; ")


@pytest.mark.parametrize(
    ("canary", "metrics", "ends"),
    [
        (None, {}, True),
        (Canary(candidate="c@1", guardrails={"lost": 0.1}), {}, True),
        (Canary(candidate="c@1", guardrails={"errors": 0.1}), {}, False),
    ],
)
def test_a_canary_without_its_terms_ends(canary: Canary | None, metrics: dict[str, Any], ends: bool) -> None:
    """A candidate whose guardrails can't be read gets no more traffic; other faults leave it alone."""
    arms = (Arm(adapter="a@1", share=1.0),)
    whole = RouteSpec(arms=arms, canary=Canary(candidate="c@1"))
    status = begun(whole, RouteStatus(state="active", active_generation=1, effective_arms=arms), Moment(0, 5))
    spec = RouteSpec(arms=arms, canary=canary, metrics=metrics)
    found = _status(Route(name="r", spec=spec, generation=1, status=status, fault="broken"))
    assert found.canary is not None
    assert (found.canary.state, found.effective_arms == arms) == (
        ("aborted", True) if ends else ("running", False)
    )
