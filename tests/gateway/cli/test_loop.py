"""`turnout loop` and `/admin/loop`."""

import re
import time
from typing import Any

import pytest

from gateway.core.canary import Canary
from gateway.core.refs import VersionRef
from gateway.core.requests import Role
from gateway.loops.run import Run as LoopRun
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from tests.gateway.admin_harness import AdminService
from tests.gateway.cli.conftest import Run, documents


@pytest.fixture
def looped(two: AdminService) -> AdminService:
    """A route with a loop, whose traffic meets one version."""
    spec = {"arms": [{"adapter": "support@1", "share": 1.0}], "loop": {"runs_per_week": 2}}
    assert two.call("PUT", "/admin/routes/support", json=spec)[0] == 202
    two.activate("support")
    return two


def change(admin: AdminService, **fields: Any) -> LoopRun:
    """Do what the controller does with the open run."""
    (known,) = admin.control.loops.open()
    if fields.get("ended_at"):
        fields["ended_at"] = time.time()
    changed = admin.control.loops.change(known, actor="loop", **fields)
    assert changed is not None
    return changed


def test_a_run_by_hand_is_approved_and_shown(looped: AdminService, run: Run) -> None:
    """It is begun, asks, is approved by somebody with a reason, and each word is in the audit log."""
    begun = documents(run("loop run support --why try --json"))
    assert (begun["state"], begun["trigger"], begun["champion"]) == ("proposed", "manual", "support@1")
    assert "ends for nothing" not in run("loop status").stdout
    again = run("loop run support")
    assert (again.exit_code, "a run is under way" in again.output) == (1, True)
    early = run(f"loop approve {begun['id']}")
    assert (early.exit_code, "asks for nothing" in early.output) == (1, True)
    known = {
        "curate": {"outcome": "ready", "rows": 8, "notes": ["nothing of support@1 is replayed"]},
        "gate": {
            "verdict": "needs_approval",
            "reason": "no row is trusted",
            "driver": "length",
            "notes": ["slow"],
        },
    }
    change(looped, state="waiting_approval", candidate="support@2", results=known, reason="no row is trusted")
    assert re.search(r"support\s+waiting_approval.*support@2\s+no row is trusted", run("loop status").stdout)
    shown = run(f"loop show {begun['id']}").stdout
    assert "needs_approval: no row is trusted" in shown
    assert re.search(r"Asks\s+rollout", shown)
    assert re.findall(r"Note\s+(.+)", shown) == ["nothing of support@1 is replayed", "slow"]
    approved = documents(run(f"loop approve {begun['id']} --why seen --json"))
    assert approved["approvals"]["rollout"]["why"] == "seen"
    assert documents(run(f"loop approve {begun['id']} --json"))["approvals"] == approved["approvals"]
    actions = [event["action"] for event in looped.call("GET", "/admin/events")[1]["data"]]
    assert [action for action in actions if action.startswith("loop.")] == [
        "loop.approve",
        "loop.waiting_approval",
        "loop.proposed",
    ]


def test_a_run_is_rejected_until_it_meets_traffic(looped: AdminService, run: Run) -> None:
    """A no is written down for the controller; on its canary it is the canary's to end.

    One that still waits for the canary of somebody else is rejected like any other.
    """
    begun = documents(run("loop run support --json"))["id"]
    change(looped, state="canary", candidate="support@2")
    routes = looped.control.routes
    route = routes.get("support")
    assert route is not None
    ours = Canary(candidate="support@2", steps=(0.1,))
    routes.put("support", route.spec.model_copy(update={"canary": ours}), actor="loop")
    late = run(f"loop reject {begun}")
    assert (late.exit_code, "support/abort" in late.output) == (1, True)
    routes.put("support", route.spec, actor="loop")
    rejected = documents(run(f"loop reject {begun} --why no --json"))
    assert rejected["stop"]["why"] == "no"
    change(looped, state="rejected", ended_at=1.0)
    over = run(f"loop reject {begun}")
    assert (over.exit_code, "it is rejected" in over.output) == (1, True)
    assert run("loop show loop-nothing").exit_code == 1


@pytest.mark.usefixtures("looped")
def test_a_loop_is_paused_and_resumed(run: Run) -> None:
    """A paused loop begins nothing, also not by hand, and says who paused it and why."""
    assert "paused" in run("loop pause support --why holidays").stdout
    assert run("loop pause support").exit_code == 0
    assert re.search(r"support\s+paused.*holidays", run("loop status").stdout)
    assert "resume it first" in run("loop run support").output
    assert "not paused" in run("loop resume support").stdout
    assert run("loop run support").exit_code == 0


def test_the_budget_of_the_week_holds_for_people_too(looped: AdminService, run: Run) -> None:
    """Two runs a week, by whomever; a person need not wait for the cooldown between them."""
    for _ in range(2):
        assert run("loop run support").exit_code == 0
        change(looped, state="failed", ended_at=1.0, reason="no")
    refused = run("loop run support")
    assert (refused.exit_code, "within a week" in refused.output) == (1, True)
    idle = run("loop status").stdout
    assert re.search(r"idle.*cooldown of 24 h is not over \(24 h left\); the last run was failed", idle)
    rows = documents(run("loop history support --json"))["data"]
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert [row["id"] for row in documents(run("loop history --limit 1 --json"))["data"]] == [rows[0]["id"]]
    status, page = looped.call("GET", "/admin/loop/runs", params={"limit": 1})
    following = looped.call("GET", "/admin/loop/runs", params={"before": page["next_before"]})[1]
    assert (status, [row["id"] for row in following["data"]]) == (200, [rows[1]["id"]])


def test_what_stands_against_a_run_is_said(looped: AdminService, run: Run) -> None:
    """Routes without a loop, with several arms, or unknown ones begin nothing, each with its reason."""
    assert "there is no route" in run("loop run nothing").output
    spec = {"arms": [{"adapter": "support@1", "share": 0.5}, {"adapter": "support@2", "share": 0.5}]}
    looped.call("PUT", "/admin/routes/support", json=spec)
    assert "has no loop" in run("loop run support").output
    assert "no route has a loop" in run("loop status").stdout
    looped.call("PUT", "/admin/routes/support", json={**spec, "loop": {}})
    looped.activate("support")
    assert "several arms" in run("loop run support").output
    assert "several arms" in run("loop status").stdout


def test_what_a_look_calls_for_is_shown(looped: AdminService, run: Run) -> None:
    """With a finding that calls for a run, and rated requests enough, the controller begins one."""
    row = DriftRow(
        time.time(), "support", "drift", {}, None, None, kind="sequential", severity="retrain", cause="drift"
    )
    assert documents(run("loop status support --json"))["data"][0]["waits"] == "nothing calls for a run"
    looped.control.drift.add(row)
    assert "200 are needed" in documents(run("loop status support --json"))["data"][0]["waits"]
    looped.control.feedback.add(
        *(
            FeedbackRow(f"req-{each}", "support", "a@1", None, "thumbs", True, None, "k")
            for each in range(251)
        )
    )
    assert documents(run("loop status support --json"))["data"][0]["waits"] is None


def test_a_version_of_a_run_can_be_retired_once_it_has_ended(looped: AdminService, run: Run) -> None:
    """A candidate that failed is registered and named by no route."""
    run("loop run support")
    change(looped, state="gate_failed", ended_at=1.0, candidate="support@2", verdict="failed")
    found = looped.control.loops.of_candidate("support@2")
    assert found is not None
    assert found.verdict == "failed"
    assert looped.control.versions.retire(VersionRef("support", 2), actor="t", unused_only=True)


@pytest.mark.parametrize("role", [Role.INFERENCE, Role.TRAINER, Role.FEEDBACK])
def test_only_administrators_have_a_hand_on_the_loop(looped: AdminService, role: Role) -> None:
    """No other role sees runs, begins, approves, rejects or pauses them."""
    headers = {"Authorization": f"Bearer {looped.key_with(role)}"}
    for method, path in (
        ("GET", "/admin/loop"),
        ("GET", "/admin/loop/runs"),
        ("POST", "/admin/loop/support/run"),
        ("POST", "/admin/loop/support/pause"),
        ("POST", "/admin/loop/loop-x/approve"),
    ):
        assert looped.http.request(method, path, headers=headers).status_code == 403
