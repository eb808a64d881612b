"""`/admin/routes/{route}/feedback`, `signals` and `shadow`."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.requests import RequestRow
from gateway.core.routes import RouteSpec
from gateway.store.feedback import FeedbackRow
from gateway.store.shadows import Pair
from tests.gateway.admin_harness import AdminService, admin_service

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on stores with the route `r`, whose thumbs stay open for an hour."""
    service.reset()
    document = {
        "arms": [{"adapter": "base", "share": 1}],
        "metrics": {"thumbs": {"window_h": 1}},
        "shadow": {"adapter": "base", "share": 0.5},
    }
    service.control.routes.put("r", RouteSpec.model_validate(document), actor="test")
    return service


def rating(number: int, **fields: Any) -> FeedbackRow:
    """A rating at second `number` of a request of second 0."""
    plain: dict[str, Any] = {
        "request_id": f"req-{number}", "route": "r", "adapter": "a@1", "arm": "a@1", "metric": "thumbs",
        "value": True, "comment": None, "key_id": "k1", "at": float(number), "exposed_at": 0.0,
    }  # fmt: skip
    return FeedbackRow(**{**plain, **fields})


def pair(number: int, **fields: Any) -> Pair:
    """Two answers to a request of second `number`."""
    plain: dict[str, Any] = {
        "id": f"req-{number}", "shadow_id": f"req-s{number}", "at": float(number), "endpoint": "completions",
        "route": "r", "adapter": "a@1", "shadow": "base", "prompt": "p", "answer": "x", "shadow_answer": "x",
        "shadow_status": 200, "shadow_error": None, "finish_reason": "stop", "shadow_finish_reason": "stop",
        "completion_tokens": 2, "shadow_completion_tokens": 4, "latency_ms": 10.0, "shadow_latency_ms": 20.0,
    }  # fmt: skip
    return Pair(**{**plain, **fields})


def test_ratings_are_shown_newest_first(admin: AdminService) -> None:
    """Every rating is shown, also a repeated, late or internal one, page by page, by metric or request."""
    admin.control.feedback.add(rating(1), rating(2, request_id="req-1", value=False, comment="hm"))
    admin.control.feedback.add(rating(3602, request_id="req-1"), rating(4, internal=True, exposed_at=None))
    admin.control.feedback.add(rating(5, metric="stars", value=4.5), rating(6, route="s"))
    status, page = admin.call("GET", "/admin/routes/r/feedback?limit=3")
    assert status == 200
    seen = [(row["request_id"], row["value"], row["late"], row["internal"]) for row in page["data"]]
    assert seen == [
        ("req-5", 4.5, False, False),
        ("req-4", True, None, True),
        ("req-1", True, True, False),
    ]
    rest = admin.call("GET", f"/admin/routes/r/feedback?before_id={page['next_before_id']}")[1]
    assert [(row["value"], row["comment"]) for row in rest["data"]] == [(False, "hm"), (True, None)]
    assert rest["next_before_id"] is None
    for query, count in (("metric=stars", 1), ("request_id=req-1", 3), ("metric=none", 0)):
        assert len(admin.call("GET", f"/admin/routes/r/feedback?{query}")[1]["data"]) == count


def test_signals_are_counted_by_arm(admin: AdminService) -> None:
    """Of each arm: of how many requests a signal is known, and of how many it is true."""
    now = time.time() - HOUR_S
    plain: dict[str, Any] = {"endpoint": "completions", "route": "r", "adapter": "a@1", "status": 200}
    admin.requests.write(
        [
            RequestRow("req-1", now, arm="a@1", unit="u", finish_reason="length", **plain),
            RequestRow("req-2", now + 5, arm="a@1", unit="u", finish_reason="stop", **plain),
            RequestRow("req-3", now, arm="a@2", streamed=True, **plain),
            RequestRow("req-4", now, arm="a@2", internal=True, finish_reason="stop", **plain),
        ]
    )
    page = admin.call("GET", "/admin/routes/r/signals")[1]
    assert page["requests"] == 3
    assert [tuple(row.values()) for row in page["data"]] == [
        ("a@1", "asked_again", 2, 1),
        ("a@1", "cut_by_length", 2, 1),
        ("a@2", "abandoned", 1, 0),
    ]
    assert admin.call("GET", f"/admin/routes/r/signals?since={now + 60}")[1]["data"] == []


def test_pairs_of_answers(admin: AdminService) -> None:
    """Pairs are paged, newest first, below what they sum up to."""
    pairs = admin.requests.pairs
    pairs.add(pair(1))
    pairs.add(pair(2, shadow_answer="y"))
    pairs.add(pair(3, shadow_answer=None, shadow_status=504, shadow_error="upstream_timeout"))
    pairs.add(pair(4, route="s"))
    status, page = admin.call("GET", "/admin/routes/r/shadow?limit=2")
    assert status == 200
    assert [row["id"] for row in page["data"]] == ["req-3", "req-2"]
    assert (page["shadow"], page["next_offset"]) == ({"adapter": "base", "share": 0.5}, 2)
    (summary,) = page["summary"]
    assert [summary[name] for name in ("pairs", "failed", "compared", "same")] == [3, 1, 2, 1]
    assert summary["mean_shadow_latency_ms"] == 20.0
    rest = admin.call("GET", "/admin/routes/r/shadow?limit=2&offset=2")[1]
    assert ([row["answer"] for row in rest["data"]], rest["next_offset"]) == (["x"], None)


@pytest.mark.parametrize("what", ["feedback", "signals", "shadow"])
def test_a_route_that_is_not_there(admin: AdminService, what: str) -> None:
    """An unknown route is a 404."""
    assert admin.call("GET", f"/admin/routes/none/{what}")[0] == 404
