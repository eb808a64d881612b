"""`/admin/experiments` and the commands for canaries."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.requests import RequestRow
from gateway.experiments.compare import Difference, compare
from gateway.experiments.outcomes import Outcome
from gateway.store.database import StoreUnavailable
from gateway.store.feedback import FeedbackRow
from tests.gateway.admin_harness import AdminService, admin_service
from tests.gateway.people import People

ROUTE = "/admin/routes/support"
EXPERIMENT = "/admin/experiments/support"
HALVES = [{"adapter": "support@1", "share": 0.5}, {"adapter": "support@2", "share": 0.5}]
THUMBS = {"thumbs": {"primary": True, "window_h": 1e-9}}
CANARY = {"candidate": "support@2", "steps": [0.4, 1.0], "min_units": 20, "guardrails": {"thumbs": 0.1}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on a store with a controller and two versions of `support`."""
    service.reset().controller()
    service.adapter(seed=0)
    service.adapter(seed=1)
    return service


def put(admin: AdminService, **spec: Any) -> dict[str, Any]:
    """Store a spec and return the answer."""
    whole = {"arms": [{"adapter": "support@1", "share": 1.0}], "metrics": THUMBS, **spec}
    status, found = admin.call("PUT", ROUTE, json={"spec": whole})
    assert status == 202, found
    return dict(found)


def record(admin: AdminService, **fields: Any) -> None:
    """Record one request."""
    row = {"id": f"r{len(admin.requests.window('support'))}", "at": 100.0, "endpoint": "chat", "status": 200}
    row |= {"route": "support", "arm": "support@1", "adapter": "support@1", "key_id": "k1"}
    admin.requests.write([RequestRow(**{**row, **fields})])


def test_counts_have_no_verdict_by_themselves(admin: AdminService) -> None:
    """Requests, subjects, errors and feedback by arm; nothing is said before the controller has looked."""
    admin.adapter()
    admin.activate("support")
    record(admin, unit="u1")
    record(admin, unit="u1", status=502)
    record(admin, unit=None, status=404)
    record(admin, arm="support@2", adapter="support@2", unit="u2")

    def rate(request_id: str, metric: str, value: bool | float | str, at: float) -> None:
        row = FeedbackRow(request_id, "support", "support@1", "support@1", metric, value, None, "k1", at)
        admin.control.feedback.add(row)

    rate("r0", "thumbs", value=False, at=1.0)
    rate("r0", "thumbs", value=True, at=2.0)
    rate("r1", "thumbs", value=False, at=3.0)
    rate("r1", "why", value="rude", at=3.0)
    found = admin.call("GET", "/admin/experiments/support")[1]
    assert (found["verdict"], found["findings"], found["at"]) == (None, None, None)
    assert "counts only" in found["note"]
    assert found["arms"] == {
        "support@1": {
            "requests": 3,
            "units": 1,
            "unsticky": 1,
            "errors": 1,
            "feedback": {
                "thumbs": {"count": 2, "mean": 0.5, "values": {}},
                "why": {"count": 1, "mean": None, "values": {"rude": 1}},
            },
        },
        "support@2": {"requests": 1, "units": 1, "unsticky": 0, "errors": 0, "feedback": {}},
    }
    assert admin.call("GET", "/admin/experiments/none")[0] == 404


def test_an_experiment_says_what_was_found(admin: AdminService) -> None:
    """Epochs, units, mismatch, every metric with its interval and its alpha, and the verdict in words."""
    put(admin, arms=HALVES, sticky="none")
    admin.activate("support")
    people = People(admin.control, admin.requests)
    people.ask("support", 600, liked={"support@1": 0.5, "support@2": 0.9})
    people.ask("support", 50, internal=True)
    admin.look("support")
    found = admin.call("GET", EXPERIMENT)[1]
    assert found["verdict"].startswith("support@2 is better on thumbs by")
    assert "safe to promote" in found["verdict"]
    figures = found["findings"]
    assert figures["stable"] == "support@1"
    assert sum(arm["units"] for arm in figures["arms"].values()) == 600
    assert figures["mismatch"]["suspicious"] is False
    thumbs = figures["candidates"]["support@2"]["metrics"]["thumbs"]
    assert 0 < thumbs["low"] < thumbs["estimate"] < thumbs["high"]
    assert thumbs["ratings"]["rates_differ"] is False
    assert found["epochs"] == [
        {"from_generation": figures["epochs"][0]["from_generation"], "at": found["epochs"][0]["at"],
         "arms": {"support@1": 0.5, "support@2": 0.5}, "salt": ""}
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["thumbs", "errors", "asked_again"])
def test_whoever_doubts_it_computes_it_again(admin: AdminService, metric: str) -> None:
    """The closed units, page by page, give the very figures that are shown, after a change of shares too."""
    put(
        admin,
        canary={**CANARY, "steps": [0.2, 0.5, 0.8], "guardrails": {}, "min_units": 5},
        slo={"window_s": 0},
    )
    admin.begin_canary("support")
    people = People(admin.control, admin.requests)
    for _ in range(2):
        how = {"support@1": 0.7, "support@2": 0.6}
        people.ask("support", 200, liked=how, fails={"support@2": 0.1}, subject=lambda n: f"user {n % 90}")
        admin.look("support")
    shown = admin.call("GET", EXPERIMENT)[1]["findings"]
    told, offset = [], 0
    while offset is not None:
        query = f"metric={metric}&limit=70&offset={offset}"
        page = admin.call("GET", f"{EXPERIMENT}/outcomes?{query}")[1]
        told += page["data"]
        offset = page["next_offset"]
    epochs = {epoch["from_generation"]: epoch["shares"] for epoch in shown["epochs"]}
    figures = shown["candidates"]["support@2"]["metrics"][metric]
    again = compare(
        [Outcome(one["epoch"], one["arm"], one["value"], one["chances"]) for one in told],
        epochs,
        stable="support@1",
        candidate="support@2",
        alpha=figures["alpha"],
    )
    assert len(epochs) == 2
    assert again == Difference(**{name: figures[name] for name in Difference.__slots__})


def test_outcomes_of_nothing(admin: AdminService) -> None:
    """Without an experiment there are none, and a metric or an arm that is not in it is named."""
    assert admin.call("GET", "/admin/experiments/none/outcomes")[0] == 404
    assert admin.call("GET", f"{EXPERIMENT}/outcomes")[0] == 404
    put(admin, arms=HALVES)
    admin.activate("support")
    admin.look("support")
    assert admin.call("GET", f"{EXPERIMENT}/outcomes")[1]["data"] == []
    for query in ("metric=stars", "candidate=support@1"):
        status, body = admin.call("GET", f"{EXPERIMENT}/outcomes?{query}")
        assert (status, "there are errors" in body["error"]["message"]) == (422, True)


def test_the_way_of_a_canary_through_the_api(admin: AdminService) -> None:
    """Paused, resumed, aborted and begun anew: at once, with the reason in the log; or 409 with why not."""
    put(admin, canary=CANARY)
    admin.begin_canary("support")

    def post(action: str, **more: Any) -> tuple[int, Any]:
        return admin.call("POST", f"{ROUTE}/{action}?why=because", **more)

    def met(route: dict[str, Any]) -> dict[str, float]:
        return {arm["adapter"]: arm["share"] for arm in route["status"]["effective_arms"]}

    status, body = post("resume")
    assert (status, body["error"]["code"]) == (409, "canary_state")
    assert "it is running" in body["error"]["message"]
    assert post("pause")[1]["status"]["canary"]["state"] == "paused"
    assert post("resume")[1]["status"]["canary"]["state"] == "running"
    status, route = post("abort")
    assert (status, met(route)) == (200, {"support@1": 1.0})
    assert post("resume")[0] == 409
    status, route = post("resume", json={"restart": True})
    assert (route["status"]["canary"]["state"], met(route)) == (
        "running",
        {"support@1": 0.6, "support@2": 0.4},
    )
    events = admin.call("GET", f"{ROUTE}/history?limit=5")[1]["data"]
    assert [(event["action"], event["why"]) for event in events[:4]] == [
        ("route.flip", "because"), ("route.flip", "because"), ("route.canary", "because"),
        ("route.canary", "because"),
    ]  # fmt: skip
    assert post("abort", headers={"If-Match": '"1"'})[0] == 412
    assert admin.call("POST", "/admin/routes/none/abort")[0] == 404


def test_a_plan_comes_with_the_spec(admin: AdminService) -> None:
    """PUT and `plan` say what can be found and how long it takes, of a canary and of plain arms."""
    found = put(admin)
    assert found["plan"] is None
    found = put(admin, canary=CANARY)
    assert (found["plan"]["units_per_day"], found["plan"]["days"]) == (0.0, None)
    admin.begin_canary("support")
    People(admin.control, admin.requests).ask("support", 100)
    plan = admin.call("GET", f"{ROUTE}/plan")[1]["plan"]
    step = plan["steps"][0]
    assert (step["share"], step["candidate_units"], step["in_time"]) == (0.4, 20, True)
    assert 0 < step["days"] < 1
    assert 0.1 < step["detectable"]["thumbs"]["difference"] <= 1
    plan = put(admin, arms=HALVES)["plan"]
    assert plan["metric"] == "thumbs"
    assert plan["candidates"]["support@2"]["units"] > 1000
    assert admin.call("GET", "/admin/routes/none/plan")[0] == 404


def test_a_spec_is_stored_without_its_plan(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the requests' store is away the spec is taken all the same, and `plan` alone answers 503."""

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(admin.requests, "units_per_day", away)
    assert put(admin, canary=CANARY)["plan"] is None
    assert admin.call("GET", f"{ROUTE}/plan")[0] == 503


def test_a_canary_that_cannot_be_run_is_refused(admin: AdminService) -> None:
    """With every reason at once."""
    wrong = {"candidate": "support@1", "steps": [1.0], "guardrails": {"stars": 0.1}}
    spec = {"arms": [{"adapter": "support@1", "share": 1.0}], "canary": wrong}
    status, body = admin.call("PUT", ROUTE, json={"spec": spec})
    assert (status, body["error"]["param"]) == (422, "canary")
    for word in ("is an arm already", "a step between 0 and 1", "'stars' is no metric of this route"):
        assert word in body["error"]["message"]
