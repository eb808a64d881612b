"""Requests that are marked as internal: recorded, and in no experiment."""

import pytest

from gateway.api.headers import marked_internal
from gateway.core.requests import Principal, Role
from gateway.errors import InvalidRequest, NotPermitted, TurnoutError
from tests.gateway.conftest import Rig

BODY = {"model": "support", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("value", "roles", "outcome"),
    [
        (b"true", {Role.INTERNAL}, True),
        (b" True ", {Role.ADMIN}, True),
        (b"true", {Role.INFERENCE, Role.FEEDBACK}, NotPermitted),
        (b"false", {Role.INFERENCE}, False),
        (b"", {Role.ADMIN}, InvalidRequest),
        (b"load-test", {Role.INTERNAL}, InvalidRequest),
    ],
)
def test_who_may_mark(value: bytes, roles: set[Role], outcome: bool | type[TurnoutError]) -> None:
    """Only keys with the role internal or admin may mark a request; a word that says neither is refused."""
    principal = Principal("k", "default", frozenset(roles))
    if isinstance(outcome, bool):
        assert marked_internal(value, principal) is outcome
        return
    with pytest.raises(outcome):
        marked_internal(value, principal)


@pytest.mark.slow
def test_internal_requests_count_nowhere(rig: Rig) -> None:
    """A marked request is answered and recorded as any other, and neither it nor its rating is counted."""
    store = rig.gateway.store
    store.route("quiet", {"support@1": 1.0})
    rig.gateway.settle()
    for mark in ("true", "false"):
        headers = {"x-turnout-internal": mark}
        answer = rig.http.post("/v1/chat/completions", json={**BODY, "model": "quiet"}, headers=headers)
        assert (answer.status_code, answer.headers["x-turnout-arm"]) == (200, "support@1")
        request_id = answer.headers["x-request-id"]
        rating = {"request_id": request_id, "metric": "thumbs", "value": True}
        assert rig.http.post("/v1/feedback", json=rating).status_code == 200
        assert rig.gateway.row(request_id).internal is (mark == "true")
    assert [row.request_id for row in store.control.feedback.rows("quiet")] == [request_id]
    assert len(store.control.feedback.rows("quiet", internal=True)) == 2
    assert [row["requests"] for row in store.requests.by_arm("quiet")] == [1]


@pytest.mark.slow
def test_a_mark_that_is_not_understood_is_refused(rig: Rig) -> None:
    """A request that is neither marked nor unmarked does not reach an engine."""
    answer = rig.http.post("/v1/chat/completions", json=BODY, headers={"x-turnout-internal": "maybe"})
    assert (answer.status_code, rig.posted()) == (400, 0)
