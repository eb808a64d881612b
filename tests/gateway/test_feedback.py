"""`POST /v1/feedback` on a whole gateway."""

from typing import Any

import httpx
import pytest

from gateway.store.feedback import FeedbackRow
from tests.gateway.conftest import Rig
from tests.gateway.harness import PATIENCE_S

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
BODY = {"model": "support", "messages": [{"role": "user", "content": "hello"}]}


def rate(rig: Rig, **fields: Any) -> httpx.Response:
    """Send feedback."""
    return rig.http.post("/v1/feedback", json={"metric": "thumbs", "value": True, **fields})


def test_feedback_is_attributed_and_durable(rig: Rig) -> None:
    """A rating by our id and one by the answer's id, sent at once, are both stored with route and version."""
    answer = rig.http.post(CHAT, json=BODY)
    ids = (answer.headers["x-request-id"], answer.json()["id"])
    for request_id in ids:
        said = rate(rig, request_id=request_id, comment="good")
        assert said.status_code == 200
        assert said.json() == {
            "object": "feedback",
            "request_id": ids[0],
            "metric": "thumbs",
            "metrics": ["thumbs"],
            "route": "support",
            "adapter": "support@1",
            "arm": "support@1",
        }
    rows = stored(rig, ids[0], "support")
    assert [(row.value, row.comment, row.arm) for row in rows] == [(True, "good", "support@1")] * 2


VALUES: list[tuple[str, Any, int]] = [
    ("thumbs", False, 200),
    ("thumbs", 1, 422),
    ("thumbs", "yes", 422),
    ("stars", 4, 200),
    ("stars", 4.5, 200),
    ("stars", True, 422),
    ("stars", "4", 422),
    ("stars", 10**400, 422),
    ("stars", 1, 200),
    ("stars", 0.9, 422),
    ("stars", 5.1, 422),
    ("seconds", 1e300, 200),
    ("asked_again", True, 422),
    ("cut_by_length", True, 422),
    ("label", "spam", 200),
    ("label", 1, 422),
    ("demonstration", "the right answer", 200),
    ("demonstration", True, 422),
    ("undeclared", "anything", 200),
    ("undeclared", None, 422),
    ("undeclared", [1], 422),
    ("undeclared", {"a": 1}, 422),
    ("undeclared", "x" * 40_000, 422),
    ("Not A Name", True, 400),
]


DECLARED = {
    "thumbs": {"type": "bool"},
    "stars": {"type": "number", "range": [1, 5]},
    "seconds": {"type": "number"},
    "label": {"type": "string"},
    "asked_again": {"better": "lower"},
}


def answered(rig: Rig, *, sticky: bool = False) -> str:
    """Have a request answered on a route with declared metrics; return its id."""
    rig.gateway.store.route("rated", {"support@1": 1.0}, metrics=DECLARED)
    rig.gateway.settle()
    headers = {"x-turnout-subject": "ann"} if sticky else {}
    answer = rig.http.post(CHAT, json={**BODY, "model": "rated"}, headers=headers)
    return str(answer.headers["x-request-id"])


def stored(rig: Rig, request_id: str, route: str = "rated") -> list[FeedbackRow]:
    """What is stored of a request, oldest first."""
    rows = rig.gateway.store.control.feedback.rows(route, internal=True)
    return [row for row in rows if row.request_id == request_id]


@pytest.mark.parametrize(("metric", "value", "status"), VALUES)
def test_values_of_feedback(rig: Rig, metric: str, value: Any, status: int) -> None:
    """A value has the type and range that the route declares; `demonstration` is always a text."""
    request_id = answered(rig)
    said = rate(rig, request_id=request_id, metric=metric, value=value)
    assert said.status_code == status, said.text
    assert [row.value for row in stored(rig, request_id)] == [value] * (status == 200)


def test_several_metrics_at_once(rig: Rig) -> None:
    """Several metrics of one request are stored together, with its subject and time; the comment once."""
    request_id = answered(rig, sticky=True)
    body = {"request_id": request_id, "metrics": {"thumbs": False, "stars": 2, "demonstration": "better"}}
    said = rig.http.post("/v1/feedback", json={**body, "comment": "slow\0"})
    assert said.status_code == 200, said.text
    assert (said.json()["metric"], said.json()["metrics"]) == (None, ["thumbs", "stars", "demonstration"])
    rows = stored(rig, request_id)
    assert [(row.metric, row.value, row.comment) for row in rows] == [
        ("thumbs", False, "slow"),
        ("stars", 2, None),
        ("demonstration", "better", None),
    ]
    request = rig.gateway.row(request_id)
    assert {(row.unit, row.exposed_at, row.internal) for row in rows} == {(request.unit, request.at, False)}
    assert request.unit is not None


def test_one_wrong_value_stores_nothing(rig: Rig) -> None:
    """When one of several metrics is refused, none is stored."""
    request_id = answered(rig)
    said = rig.http.post(
        "/v1/feedback", json={"request_id": request_id, "metrics": {"thumbs": True, "stars": 9}}
    )
    assert (said.status_code, "from 1 to 5" in said.text) == (422, True)
    assert stored(rig, request_id) == []


def test_repeats_are_kept(rig: Rig) -> None:
    """A rating that is sent again, or changed, is one more row; nothing is overwritten."""
    request_id = answered(rig)
    for value in (True, True, False):
        assert rate(rig, request_id=request_id, value=value).status_code == 200
    assert [row.value for row in stored(rig, request_id)] == [True, True, False]
    newest = rig.gateway.store.control.feedback.newest("rated", request_id=request_id, limit=2)
    assert [row.value for row in newest] == [False, True]


@pytest.mark.parametrize(
    "body",
    [
        {"metric": "thumbs"},
        {"value": True},
        {"metric": None, "value": True},
        {"metrics": {}},
        {"metrics": None},
        {"metrics": {"thumbs": True}, "metric": "thumbs", "value": True},
        {"metrics": {"Not A Name": True}},
        {"metrics": {f"m{n}": True for n in range(33)}},
    ],
)
def test_bodies_of_neither_form(rig: Rig, body: dict[str, Any]) -> None:
    """A body names one metric with its value, or up to 32 of them."""
    assert rig.http.post("/v1/feedback", json={"request_id": "req-1", **body}).status_code == 400


def test_a_rated_request_is_stored_before_its_rating(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long requests are collected before they are written, the one that is rated is written first."""
    recorder = rig.gateway.app.state.gateway.recorder
    settle = recorder.settle
    monkeypatch.setattr(recorder, "settle", lambda _: settle(PATIENCE_S))  # a slow store is not the subject
    interval_s, recorder.interval_s = recorder.interval_s, 3600.0
    try:
        for _ in range(2):  # the first one ends the interval that had begun
            request_id = answered(rig)
            assert rate(rig, request_id=request_id).status_code == 200
        assert rig.gateway.store.requests.find(request_id) is not None
    finally:
        recorder.interval_s = interval_s
        recorder._full_batch.set()


def test_feedback_that_has_nothing_to_rate(rig: Rig) -> None:
    """An unknown request is a 404, one that was refused a 422, a wrong field a 400."""
    assert rate(rig, request_id="req-nobody").status_code == 404
    refused = rig.http.post(CHAT, json={**BODY, "model": "nope"})
    assert rate(rig, request_id=refused.headers["x-request-id"]).status_code == 422
    assert rate(rig, request_id="x", extra=1).status_code == 400
    nan = b'{"request_id": "x", "metric": "m", "value": NaN}'
    answer = rig.http.post("/v1/feedback", content=nan, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 404, 422}
