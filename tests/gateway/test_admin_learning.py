"""`/admin/curation`, `/admin/golden`, lineage and `/admin/forget`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.requests import Role
from gateway.core.routes import RouteSpec
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.tombstones import unit_of
from tests.gateway.admin_harness import AdminService, admin_service
from tests.gateway.store.test_curation import row
from tests.gateway.store.test_forgetting import request


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on stores with the route `r`, four requests, and a row of each."""
    service.reset()
    spec = {"arms": [{"adapter": "base", "share": 1}], "loop": {"golden_uses": 2}}
    service.control.routes.put("r", RouteSpec.model_validate(spec), actor="test")
    for number in range(1, 5):
        unit = unit_of("r", f"subject {number}")
        service.requests.write([request(f"req-{number}", unit)])
        service.control.feedback.add(
            FeedbackRow(
                f"req-{number}", "r", "a@1", None, "thumbs", True, None, "k", unit=unit, exposed_at=10.0
            )
        )
        split = "held_out" if number == 4 else "train"
        service.control.curation.propose([row(number, unit=unit, split=split)])
    return service


def decide(admin: AdminService, **body: Any) -> tuple[int, Any]:
    """Send one decision."""
    return admin.call("POST", "/admin/curation/decisions", json=body)


def test_the_queue_is_read_and_decided_on(admin: AdminService) -> None:
    """Page by page, the most novel first; what is decided is not in it any more, and audited."""
    page = admin.call("GET", "/admin/curation/rows", params={"route": "r", "limit": 3})[1]
    assert [each["id"] for each in page["data"]] == ["row-4", "row-3", "row-2"]
    assert (page["next_offset"], set(page["rubric"])) == (3, {"correct", "complete", "style", "safe"})
    assert decide(admin, decision="approve", ids=["row-4", "row-1"], rubric={"correct": True})[0] == 200
    assert decide(admin, decision="reject", ids=["row-2"], why="wrong")[0] == 200
    status, found = decide(admin, decision="edit", ids=["row-3"], answer="better")
    assert (status, found["data"][0]["answer"], found["data"][0]["state"]) == (200, "better", "edited")
    assert admin.call("GET", "/admin/curation/rows")[1]["data"] == []
    counts = admin.call("GET", "/admin/curation", params={"route": "r"})[1]["data"]["r"]
    assert counts == {"held_out": {"approved": 1}, "train": {"approved": 1, "edited": 1, "rejected": 1}}
    assert admin.call("GET", "/admin/curation/rows/row-3")[1]["answer"] == "better"
    actions = {event["action"] for event in admin.call("GET", "/admin/events")[1]["data"]}
    assert {"curation.approve", "curation.reject", "curation.edit"} <= actions


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"decision": "approve", "ids": ["row-9"]}, 404),
        ({"decision": "approve", "ids": []}, 400),
        ({"decision": "burn", "ids": ["row-1"]}, 400),
        ({"decision": "approve", "ids": ["row-1"], "rubric": {"safe": False}}, 422),
        ({"decision": "edit", "ids": ["row-1", "row-2"], "answer": "x"}, 400),
        ({"decision": "edit", "ids": ["row-1"]}, 422),
    ],
)
def test_decisions_that_can_not_be_are_refused(
    admin: AdminService, body: dict[str, Any], status: int
) -> None:
    """And nothing is changed."""
    assert decide(admin, **body)[0] == status
    assert len(admin.call("GET", "/admin/curation/rows")[1]["data"]) == 4


def test_only_administrators_are_let_in(admin: AdminService) -> None:
    """Rows are what people wrote; who may train may not read them by that."""
    headers = {"Authorization": f"Bearer {admin.key_with(Role.TRAINER, Role.INFERENCE)}"}
    for method, path in (
        ("GET", "/admin/curation/rows"),
        ("POST", "/admin/curation/decisions"),
        ("GET", "/admin/golden/r"),
        ("GET", "/admin/requests/req-1/versions"),
        ("GET", "/admin/adapters/a/1/lineage"),
        ("POST", "/admin/forget"),
        ("POST", "/admin/forget/sweep"),
    ):
        assert admin.call(method, path, headers=headers, json={} if method == "POST" else None)[0] == 403


def test_a_golden_set_is_made_judged_by_and_rotated(admin: AdminService) -> None:
    """Of rows that are written out and of reviewed held-out ones; after enough uses its rotation is due."""
    written = {"messages": [{"role": "user", "content": "q"}], "answer": "a", "slices": {"area": "x"}}
    status, found = admin.call("POST", "/admin/golden/r/rows", json={"rows": [written, written]})
    assert (status, found["added"], found["number"]) == (200, 1, 1)
    assert admin.call("POST", "/admin/golden/r/rows", json={"curated": ["row-4"]})[0] == 422
    decide(admin, decision="approve", ids=["row-4", "row-1"])
    assert admin.call("POST", "/admin/golden/r/rows", json={"curated": ["row-1"]})[0] == 422
    assert admin.call("POST", "/admin/golden/r/rows", json={"curated": ["row-4"]})[1]["added"] == 1
    assert admin.call("POST", "/admin/golden/r/rows", json={})[0] == 400
    assert admin.call("POST", "/admin/golden/no/rows", json={"rows": [written]})[0] == 404
    admin.control.golden.use("r", 1, run="loop-1")
    assert admin.call("GET", "/admin/golden")[1]["data"][0]["rotation_due"] is False
    admin.control.golden.use("r", 1, run="loop-2")
    (one,) = admin.call("GET", "/admin/golden", params={"route": "r"})[1]["data"]
    assert (one["rows"], one["uses"], one["rotation_due"]) == (2, 2, True)
    rows = admin.call("GET", "/admin/golden/r", params={"limit": 1})[1]
    assert len(rows["data"]) == 1
    assert rows["next_after"] == rows["data"][0]["id"]
    assert admin.call("POST", "/admin/golden/r/rotate")[1]["number"] == 2
    assert admin.call("GET", "/admin/golden/r")[1]["data"] == []
    assert admin.call("GET", "/admin/golden/other")[0] == 404


def trained(admin: AdminService) -> None:
    """Have a run use rows, and publish a version of it and one that was trained by hand."""
    drift = DriftRow(
        at=1.0, route="r", verdict="drift", figures={}, report_html=None, report_json=None, kind="sequential",
        severity="retrain", cause="drift",
    )  # fmt: skip
    admin.control.drift.add(drift)
    admin.control.curation.use("loop-1", {"row-1": "train", "row-4": "held_out_new"})
    facts = {"rank": 8, "size_bytes": 1, "base": {"name": "b"}, "source": "s"}
    lineage = {"loop_run": "loop-1", "drift_id": 1, "data_source": "the loop", "parent": "a@0 sha256:x"}
    admin.control.versions.add("a", "d1", {**facts, "lineage": lineage}, actor="t")
    admin.control.versions.add("a", "d2", {**facts, "lineage": {"data_source": "turnout:r"}}, actor="t")


def test_lineage_is_shown_both_ways(admin: AdminService) -> None:
    """From a version to run, rows, requests and drift report; from a request to the versions."""
    trained(admin)
    found = admin.call("GET", "/admin/adapters/a/1/lineage", params={"limit": 1})[1]
    assert (found["run"], found["rows"]) == ("loop-1", {"train": 1, "held_out_new": 1})
    assert (found["drift"]["severity"], found["facts"]["parent"]) == ("retrain", "a@0 sha256:x")
    assert [each["request_id"] for each in found["data"]] == ["req-1"]
    more = admin.call("GET", "/admin/adapters/a/1/lineage", params={"after": found["next_after"]})[1]
    assert ([each["request_id"] for each in more["data"]], more["next_after"]) == (["req-4"], None)
    by_hand = admin.call("GET", "/admin/adapters/a/2/lineage")[1]
    assert (by_hand["run"], by_hand["data"]) == (None, [])
    assert admin.call("GET", "/admin/adapters/a/9/lineage")[0] == 404
    cases = {"req-1": (["a@1"], []), "req-4": ([], ["a@1"]), "req-2": ([], [])}
    for request_id, (learned, judged) in cases.items():
        answer = admin.call("GET", f"/admin/requests/{request_id}/versions")[1]
        assert (answer["trained"], answer["judged"], answer["possibly"]) == (learned, judged, ["a@2"])
    assert admin.call("GET", "/admin/requests/req-none/versions")[0] == 404


def test_a_subject_is_forgotten_and_named_nowhere(admin: AdminService) -> None:
    """Looked at first, then removed, with what has learned from it; again it finds nothing more to do."""
    trained(admin)
    folder = admin.folder / "loop" / "loop-1"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"row_id": f"row-{number}", "subject": unit_of("r", f"subject {number}")})
        for number in (1, 2)
    ]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    body = {"subject": "subject 1"}
    look = admin.call("POST", "/admin/forget", json={**body, "dry_run": True})[1]
    assert (look["dry_run"], look["trained"], look["possibly"], look["name"]) == (
        True,
        ["a@1"],
        ["a@2"],
        None,
    )
    assert admin.requests.find("req-1") is not None
    done = admin.call("POST", "/admin/forget", json=body, params={"why": "asked for"})[1]
    assert (done["complete"], done["trained"], done["routes"]) == (True, ["a@1"], ["r"])
    assert done["counts"] == {"requests": 1, "feedback": 1, "curated_rows": 1, "lines_of_files": 1}
    assert "train them anew" in done["advice"]
    assert admin.requests.find("req-1") is None
    assert (folder / "train.jsonl").read_text() == lines[1] + "\n"
    events = json.dumps(admin.call("GET", "/admin/events")[1])
    assert "subject 1" not in events
    assert events.count(done["name"]) >= 2
    assert admin.call("GET", "/admin/adapters/a/1/lineage")[1]["rows"] == {"held_out_new": 1}
    again = admin.call("POST", "/admin/forget", json=body)[1]
    assert (again["complete"], again["counts"], again["trained"]) == (True, done["counts"], ["a@1"])
    (one,) = admin.call("GET", "/admin/forget")[1]["data"]
    assert one["name"] == done["name"]


def test_copies_are_swept(admin: AdminService) -> None:
    """What a restored copy brings back goes again, by the tombstones alone."""
    admin.call("POST", "/admin/forget", json={"subject": "subject 2"})
    admin.requests.write([request("req-2", unit_of("r", "subject 2"))])
    swept = admin.call("POST", "/admin/forget/sweep")[1]
    assert (swept["name"], swept["complete"], swept["counts"]) == ("sweep", True, {"requests": 1})
    assert admin.requests.find("req-2") is None
    assert admin.requests.find("req-3") is not None


@pytest.mark.parametrize("body", [{}, {"subject": ""}, {"subject": "x", "more": 1}, {"subject": 3}])
def test_nobody_is_forgotten_by_mistake(admin: AdminService, body: dict[str, Any]) -> None:
    """A subject is named, and nothing else."""
    assert admin.call("POST", "/admin/forget", json=body)[0] == 400
    assert admin.control.tombstones.count() == 0
