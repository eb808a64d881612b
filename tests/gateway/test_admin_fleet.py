"""`/admin/status`, `replicas`, `usage`, `events` and `drift`."""

import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from gateway.api import admin as admin_module
from gateway.api.admin_drift import MonitorRuns
from gateway.api.admin_schemas import Controller, Replica, Worker
from gateway.api.admin_status import diagnose
from gateway.core.canary import CanaryStatus
from gateway.core.refs import VersionRef
from gateway.core.requests import RequestRow
from gateway.core.routes import Arm, Route, RouteSpec, RouteStatus
from gateway.store.database import StoreUnavailable
from gateway.store.drift import DriftRow
from gateway.store.events import Event
from gateway.store.requests import Requests
from gateway.store.watches import WatchRow, lease_name
from tests.gateway.admin_harness import REPLICA, AdminService, admin_service

pytestmark = pytest.mark.slow

NOW = 1_000_000.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


def test_all_is_well(admin: AdminService) -> None:
    """With a controller, a healthy replica, a worker and active routes there is no problem."""
    ref = admin.adapter()
    admin.controller()
    admin.register(ref)
    admin.activate("support")
    admin.beat()
    status = admin.call("GET", "/admin/status")[1]
    assert status["problems"] == []
    assert status["generation"] == admin.control.generation()
    assert status["controller"]["alive"] is True
    replica = status["replicas"][0]
    assert (replica["attested"], replica["failed"]) == (["support@1"], [])
    assert replica["incarnation_age_s"] > 0
    assert status["workers"][0]["alive"] is True
    page = admin.call("GET", "/admin/replicas")[1]
    assert page["data"] == [
        {**replica, "incarnation_age_s": pytest.approx(replica["incarnation_age_s"], abs=60)}
    ]
    assert page["in_flight"] == {"support@1": 1}
    (stands,) = page["standing"][replica["id"]]
    assert (stands["adapter"], stands["state"], stands["home"]) == ("support@1", "attested", False)
    record(admin, 0, at=time.time(), prompt_tokens=3, completion_tokens=4)
    record(admin, 1, at=time.time(), status=500)
    record(admin, 2, at=time.time(), adapter="support@2", prompt_tokens=9)
    usage = admin.call("GET", "/admin/replicas")[1]["usage"]
    assert usage.keys() == {"support@1"}
    del usage["support@1"]["since"]
    assert usage["support@1"] == {
        "requests": 2, "errors": 1, "prompt_tokens": 3, "completion_tokens": 4,
    }  # fmt: skip


def test_replicas_without_the_requests(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the requests' store is away the replicas are shown, without what was used."""
    ref = admin.adapter()
    admin.controller()
    admin.register(ref)
    monkeypatch.setattr(Requests, "by_adapter", Mock(side_effect=StoreUnavailable("away")))
    status, page = admin.call("GET", "/admin/replicas")[:2]
    assert (status, len(page["data"]), page["usage"]) == (200, 1, None)


def test_what_placement_does(admin: AdminService) -> None:
    """Homes, cold loads, evictions and versions that are waited for are shown with the replicas."""
    ref = admin.adapter()
    admin.controller()
    admin.register(ref)
    epoch = admin.epoch
    placement = admin.control.placement
    other = VersionRef("support", 9)
    placement.set_homes({ref: (REPLICA,)}, cold_loaded={ref}, evicted={other}, epoch=epoch)
    placement.ask(other, stands_s=60)
    placement.refuse(other, "it is broken", epoch=epoch)
    page = admin.call("GET", "/admin/replicas")[1]
    assert page["standing"][REPLICA][0]["home"] is True
    assert page["counts"] == {
        "support@1": {"cold_loads": 1, "evictions": 0},
        "support@9": {"cold_loads": 0, "evictions": 1},
    }
    assert [(wait["adapter"], wait["refusal"]) for wait in page["waiting"]] == [("support@9", "it is broken")]


def test_an_empty_store_has_problems(admin: AdminService) -> None:
    """Nothing at all is no controller, no replica and no worker, each with what to do."""
    problems = admin.call("GET", "/admin/status")[1]["problems"]
    assert [problem["what"] for problem in problems] == [
        "no controller is at work",
        "there is no replica",
        "no gateway worker reports to the store",
    ]
    assert all("turnout serve" in problem["todo"] for problem in problems)


def controller(*, alive: bool = True) -> Controller:
    """Return a controller."""
    return Controller(holder="c1", epoch=1, alive=alive, expires_at=NOW)


def replica(*, healthy: bool = True, failed: tuple[str, ...] = ()) -> Replica:
    """Return a replica."""
    return Replica(
        id="r0",
        url="http://r0",
        healthy=healthy,
        reason=None if healthy else "no answer",
        seen_at=NOW,
        incarnation="1.0",
        incarnation_age_s=1.0,
        capacity={},
        attested=(),
        registered=(),
        failed=failed,
    )


def worker(*, alive: bool = True, applied: int = 5) -> Worker:
    """Return a worker."""
    seen_at = NOW if alive else NOW - 30
    return Worker(id="w0", alive=alive, applied_generation=applied, in_flight={}, seen_at=seen_at)


def held_route() -> Route:
    """A route whose canary waits for a person."""
    at = route("active", None)
    canary = CanaryStatus(
        candidate="support@2", stable="support@1", state="held", share=0.1, started_at=1, step_at=1,
        after_generation=1, step_after_generation=1, reason="cannot tell",
    )  # fmt: skip
    return at.model_copy(update={"status": at.status.model_copy(update={"canary": canary})})


def route(state: str, reason: str | None = None) -> Route:
    """Return a route in a state."""
    spec = RouteSpec(arms=(Arm(adapter="support@1", share=1.0),))
    status = RouteStatus.model_validate({"state": state, "reason": reason})
    return Route(name="support", spec=spec, generation=1, status=status)


def event(*, generation: int, seconds_ago: float) -> Event:
    """Return the newest change."""
    return Event(1, NOW - seconds_ago, "a", "b", "c", None, None, generation, None, None)


WELL: dict[str, Any] = {
    "controller": controller(),
    "replicas": [replica()],
    "routes": [route("active")],
    "workers": [worker()],
    "newest": event(generation=5, seconds_ago=60),
    "now": NOW,
}

UNWELL: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"newest": None}, []),
    ({"controller": None}, ["no controller is at work"]),
    ({"controller": controller(alive=False)}, ["no controller is at work (the last was c1)"]),
    ({"replicas": []}, ["there is no replica"]),
    ({"replicas": [replica(healthy=False)]}, ["the replica r0 (http://r0) is not healthy: no answer"]),
    ({"replicas": [replica(failed=("a@1",))]}, ["a@1 failed on the replica r0"]),
    ({"workers": []}, ["no gateway worker reports to the store"]),
    ({"workers": [worker(), worker(alive=False)]}, ["the worker w0 is silent for 30 s"]),
    (
        {"newest": event(generation=6, seconds_ago=60)},
        ["the worker w0 serves generation 5, and 6 is 60 s old"],
    ),
    ({"newest": event(generation=6, seconds_ago=1)}, []),
    ({"routes": [route("preparing")]}, ["the route support is preparing"]),
    ({"routes": [route("attesting", "probes")]}, ["the route support is attesting: probes"]),
    (
        {"routes": [held_route()]},
        ["the canary support@2 of the route support is held: cannot tell"],
    ),
    ({"routes": [route("failed", "too big")]}, ["the route support failed: too big"]),
]


@pytest.mark.parametrize(("changed", "expected"), UNWELL)
def test_what_is_not_well(changed: dict[str, Any], expected: list[str]) -> None:
    """Each fault is named once, with something to do, and nothing else is."""
    problems = diagnose(**{**WELL, **changed})
    assert [problem.what for problem in problems] == expected
    assert all(problem.todo for problem in problems)


def test_a_worker_that_is_gone_is_no_news(admin: AdminService) -> None:
    """A worker that has been silent for minutes was replaced, and is not shown."""
    admin.controller()
    admin.beat("old", at=time.time() - 120)
    workers = admin.call("GET", "/admin/status")[1]["workers"]
    assert [row["id"] for row in workers] == ["w0"]


def record(admin: AdminService, number: int, at: float = 7300.0, **fields: Any) -> None:
    """Record one request."""
    row = {"id": f"req-{int(at):08x}{number:024x}", "at": at, "endpoint": "chat", "status": 200}
    row |= {"route": "support", "arm": "support@1", "adapter": "support@1", "key_id": "k1", "tenant": "t"}
    admin.requests.write([RequestRow(**{**row, **fields})])


def test_usage(admin: AdminService) -> None:
    """Requests, errors and tokens are summed by key, route and version, in whole hours."""
    record(admin, 0, prompt_tokens=3, completion_tokens=4)
    record(admin, 1, prompt_tokens=5, status=500)
    record(admin, 2, at=1.0)
    document = admin.call("GET", "/admin/usage?since=7250&until=7400")[1]
    assert document["data"] == [
        {
            "at": None, "key_id": "k1", "label": None, "tenant": None, "route": "support",
            "adapter": "support@1", "requests": 2, "errors": 1, "prompt_tokens": 8, "completion_tokens": 4,
        }
    ]  # fmt: skip
    assert (document["since"], document["until"], document["next_after"]) == (7200.0, 10_800.0, None)
    assert document["group_by"] == ["key", "route", "version"]


def test_usage_over_time_and_by_page(admin: AdminService) -> None:
    """Buckets, groups, filters and pages; the label of a key is shown with it."""
    own = admin.control.keys.rows()[0].id
    for number in range(3):
        record(admin, number, at=3600.0 * number, key_id=own, adapter=f"support@{number}")
    query = "/admin/usage?group_by=version,key&bucket=hour&limit=2"
    first = admin.call("GET", query)[1]
    assert [(row["at"], row["adapter"]) for row in first["data"]] == [(0, "support@0"), (3600, "support@1")]
    assert {row["key_id"] for row in first["data"]} == {own}
    second = admin.call("GET", "/admin/usage", params={**_params(query), "after": first["next_after"]})[1]
    assert ([row["adapter"] for row in second["data"]], second["next_after"]) == (["support@2"], None)
    (only,) = admin.call("GET", "/admin/usage?version=support@1&group_by=")[1]["data"]
    assert (only["requests"], only["key_id"], only["adapter"]) == (1, None, None)


def _params(query: str) -> dict[str, str]:
    return dict(part.split("=") for part in query.partition("?")[2].split("&"))


@pytest.mark.parametrize(
    "query",
    [
        "since=-1",
        "group_by=colour",
        "bucket=week",
        "after=x",
        "after=[1]",
        'after=["a","b","c","d"]',
        "after=1",
    ],
)
def test_usage_refuses(admin: AdminService, query: str) -> None:
    """What can't be understood is a 400 that says which parameter it is."""
    status, document = admin.call("GET", f"/admin/usage?{query}")[:2]
    assert status == 400
    assert query.partition("=")[0] in str(document["error"])


def test_events_are_paged(admin: AdminService) -> None:
    """The audit log goes back page by page to its beginning."""
    for seed in range(3):
        admin.adapter(seed=seed)
    seen: list[int] = []
    before: int | None = None
    while True:
        page = admin.call(
            "GET", "/admin/events", params={"limit": 2} | ({"before_id": before} if before else {})
        )[1]
        seen += [row["id"] for row in page["data"]]
        before = page["next_before_id"]
        if before is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 5  # the key, three versions and the first route


def test_where_watches_stand(admin: AdminService) -> None:
    """Each route's watch stands beside the verdicts, without the detector's state."""
    epoch = admin.control.fleet.acquire(lease_name("s"), "me", ttl_s=60)
    assert epoch is not None
    row = WatchRow("s", looks=1, adapter="s@1", error="no model", figures={"rows": {}}, state={"large": 1})
    admin.control.watches.commit(row, epoch=epoch)
    (shown,) = admin.call("GET", "/admin/drift")[1]["watches"]
    assert (shown["route"], shown["adapter"], shown["error"]) == ("s", "s@1", "no model")
    assert shown["figures"] == {"rows": {}}
    assert "state" not in shown
    assert admin.call("GET", "/admin/drift?route=other")[1]["watches"] == []


def test_drift_verdicts(admin: AdminService) -> None:
    """The newest verdict of each route, or all of one route."""
    for at, name, verdict in ((1.0, "a", "none"), (2.0, "a", "drift"), (3.0, "b", "none")):
        admin.control.drift.add(DriftRow(at, name, verdict, {"p": 0.5}, "a.html", None))
    latest = admin.call("GET", "/admin/drift")[1]
    assert [(row["route"], row["verdict"]) for row in latest["data"]] == [("a", "drift"), ("b", "none")]
    assert latest["running"] == []
    assert len(admin.call("GET", "/admin/drift?route=a")[1]["data"]) == 2


@pytest.fixture
def fake_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that stands in for monitoring: it writes what it was asked, then waits for a file."""
    package = tmp_path / "fakes" / "fake_monitor"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        textwrap.dedent("""
            import os, pathlib, sys, time
            print(*sys.argv[1:], flush=True)
            print(os.environ["TURNOUT_STORE__CONTROL_URL"], os.environ["TURNOUT_STORE__REQUESTS_URL"])
            while not pathlib.Path(sys.argv[-1], "go").exists():
                time.sleep(0.01)
            sys.exit(1 if sys.argv[2] == "bad" else 0)
        """),
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package.name


@pytest.fixture
def drifting(tmp_path: Path, fake_monitor: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminService]:
    """An admin API whose drift runs start the stand-in."""

    def runs(report_root: Path, state_dir: Path, *, environment: dict[str, str]) -> MonitorRuns:
        return MonitorRuns(report_root, state_dir, environment=environment, module=fake_monitor)

    monkeypatch.setattr(admin_module, "MonitorRuns", runs)
    monkeypatch.setattr(admin_module, "monitoring_installed", lambda: True)
    with admin_service(tmp_path) as service:
        yield service


def until_idle(admin: AdminService) -> None:
    """Wait for the end of the drift run."""
    while admin.call("GET", "/admin/drift")[1]["running"]:
        time.sleep(0.02)


def test_a_drift_run_is_a_process_of_its_own(drifting: AdminService) -> None:
    """A run answers 202 at once, is told where the stores are, and there is one at a time."""
    drifting.adapter("bad")
    drifting.adapter("support", seed=1)
    status, started = drifting.call("POST", "/admin/drift/run")
    assert (status, started["routes"]) == (202, ["bad", "support"])
    status, body = drifting.call("POST", "/admin/drift/run", json={"route": "support"})
    assert (status, body["error"]["code"]) == (409, "running")
    (drifting.folder / "go").touch()
    until_idle(drifting)
    said = Path(started["log"]).read_text(encoding="utf-8").splitlines()
    assert said == [
        f"run bad support --state-dir {drifting.folder}",
        f"sqlite:///{drifting.folder}/control.db sqlite:///{drifting.folder}/requests.db",
    ]


def test_a_drift_run_ends_with_the_gateway(drifting: AdminService) -> None:
    """A run under way does not outlive the server."""
    drifting.adapter("support")
    assert drifting.call("POST", "/admin/drift/run", json={"route": "support"})[0] == 202


def test_drift_runs_that_are_refused(drifting: AdminService) -> None:
    """An unknown route is 404; with no route at all there is nothing to look at."""
    assert drifting.call("POST", "/admin/drift/run")[0] == 422
    assert drifting.call("POST", "/admin/drift/run", json={"route": "none"})[0] == 404


def test_without_the_monitoring_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway without the extra says which one is missing."""
    monkeypatch.setattr(admin_module, "monitoring_installed", lambda: False)
    with admin_service(tmp_path) as service:
        status, body = service.call("POST", "/admin/drift/run")
    assert (status, body["error"]["code"]) == (503, "monitoring_not_installed")
    assert "turnout[monitoring]" in body["error"]["message"]
    assert sys.modules.get("evidently") is None
