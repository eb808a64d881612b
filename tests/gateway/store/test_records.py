"""Keys, feedback, drift verdicts and recorded requests."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from gateway.core.requests import RequestRow, Role
from gateway.store import schema
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.keys import KeyRow, NotRotated
from gateway.store.requests import Requests
from tests.gateway.store.conftest import Clock

KEY = KeyRow("k1", "f" * 64, "ci", "blue", frozenset({Role.ADMIN, Role.FEEDBACK}), 1.0, 50.0, None)


def test_keys(control: ControlStore, clock: Clock) -> None:
    """A key is stored, listed and revoked once; the log never holds its hash."""
    control.keys.add(KEY, actor="me")
    assert control.keys.rows() == [KEY]
    assert control.keys.revoke("k1", actor="me", why="leaked")
    assert not control.keys.revoke("k1", actor="me")
    assert not control.keys.revoke("none", actor="me")
    revoked = control.keys.rows()[0]
    assert (revoked.revoked_at, control.keys.count()) == (clock.now, 1)
    assert [event.action for event in control.events.rows("k1")] == ["key.revoke", "key.create"]
    assert KEY.hash not in str(control.events.rows())
    assert control.snapshot().keys == (revoked,)


def test_a_key_survives_whole(control: ControlStore, clock: Clock) -> None:
    """Every field is read back; a rotation replaces the row as it was read, and no other."""
    row = replace(
        KEY, models=("a-*", "base"), limits={"x": 1}, pepper="p1", rotated_at=2.0, previous_hash="e" * 64,
        previous_pepper="p0", previous_until=3.0,
    )  # fmt: skip
    control.keys.add(row, actor="me")
    assert control.keys.get("k1") == row
    assert control.keys.get("none") is None
    fresh = replace(row, hash="d" * 64, rotated_at=clock.now, models=())
    control.keys.rotate(row, fresh, actor="me", why="yearly")
    assert control.keys.get("k1") == fresh
    with pytest.raises(NotRotated):
        control.keys.rotate(row, fresh, actor="me")
    log = str(control.events.rows())
    assert not any(secret in log for secret in ("f" * 64, "e" * 64, "d" * 64))


def test_a_role_of_a_newer_release_allows_nothing(control: ControlStore, database: Database) -> None:
    """What this release does not know of a row is no reason to serve from none."""
    control.keys.add(KEY, actor="me")
    with database.write() as connection:
        connection.execute(update(schema.keys).values(roles=["feedback", "king"]))
    assert control.keys.rows()[0].roles == {Role.FEEDBACK}


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "now", "valid"),
    [(None, None, 1e12, True), (50.0, None, 49.9, True), (50.0, None, 50.0, False), (None, 1.0, 0.5, False)],
)
def test_when_a_key_is_valid(
    expires_at: float | None, revoked_at: float | None, now: float, valid: bool
) -> None:
    """A key is valid until it expires or is revoked."""
    row = KeyRow("k", "", "", "", frozenset(), 0.0, expires_at, revoked_at)
    assert row.valid(now) is valid


@pytest.mark.parametrize("value", [True, False, 0.25, 3, "a better answer", ""])
def test_feedback_keeps_its_type(control: ControlStore, value: bool | float | str) -> None:
    """A bool stays a bool, a number a number and a string a string."""
    control.feedback.add(FeedbackRow("q", "r", "a@1", "a@1", "thumbs", value, None, "k1", at=1.0))
    kept = control.feedback.rows("r")[0].value
    assert (kept, type(kept)) == (value, type(value))


def test_feedback_of_a_period(control: ControlStore, clock: Clock) -> None:
    """A route's ratings come oldest first, from a time on and before another; without a time it is now."""
    for at in (3.0, 1.0, 2.0, 0.0):
        control.feedback.add(
            FeedbackRow(f"q{at}", "r", "a@1", None, "m", value=True, comment="c", key_id="k", at=at)
        )
    control.feedback.add(
        FeedbackRow("other", "s", "a@1", None, "m", value=True, comment=None, key_id="k", at=1.0)
    )
    assert [row.at for row in control.feedback.rows("r")] == [1.0, 2.0, 3.0, clock.now]
    assert [row.at for row in control.feedback.rows("r", since=2.0, until=3.0)] == [2.0]


def test_drift(control: ControlStore) -> None:
    """Verdicts come newest first, and the newest of each route by its name."""
    rows = [
        DriftRow(float(n), name, "none", {"n": n}, None, None, id=n) for n, name in enumerate("baab", start=1)
    ]
    for row in rows:
        control.drift.add(row)
    assert control.drift.rows() == rows[::-1]
    assert control.drift.rows("a", limit=1) == [rows[2]]
    assert control.drift.latest() == [rows[2], rows[3]]


def request(number: int, **fields: Any) -> RequestRow:
    """Return a recorded request of the route `r`."""
    plain: dict[str, Any] = {"route": "r", "arm": "a@1", "adapter": "a@1", "status": 200, "key_id": "k1"}
    return RequestRow(**{"id": f"q{number}", "at": float(number), "endpoint": "chat", **plain, **fields})


def test_a_request_survives_whole(requests: Requests) -> None:
    """Every field is read back, found by our id or by the answer's."""
    row = request(
        1, client_request_id="c", requested_model="r", arm_probability=0.5, unit="u", replica="r0",
        generation=7, streamed=True, prompt_tokens=3, completion_tokens=4, queue_ms=0.5, ttft_ms=1.5,
        latency_ms=9.5, finish_reason="stop", attempts=2, prompt="p", answer="é\u2028",
        answer_id="chatcmpl-1", error_code="x", tenant="t",
    )  # fmt: skip
    requests.write([row])
    requests.write([])
    assert requests.find("q1") == requests.find("chatcmpl-1") == row
    assert requests.find("none") is None


def test_a_window(requests: Requests) -> None:
    """A route's requests of a period, oldest first, without internal ones; with a prompt if asked."""
    requests.write([request(3, prompt="p"), request(1), request(2), request(4)])
    requests.write([request(5, route="s"), request(6, internal=True)])
    assert [row.id for row in requests.window("r")] == ["q1", "q2", "q3", "q4"]
    assert [row.id for row in requests.window("r", since=2.0, until=4.0)] == ["q2", "q3"]
    assert [row.id for row in requests.window("r", limit=1)] == ["q1"]
    assert [row.id for row in requests.window("r", with_prompt=True)] == ["q3"]


def test_requests_by_arm(requests: Requests) -> None:
    """Requests, distinct subjects, requests without one, and answers with status 500 and above."""
    requests.write([request(1, unit="u1"), request(2, unit="u1", status=503), request(3, status=404)])
    requests.write([request(4, arm="a@2", unit="u2"), request(5, arm=None), request(6, internal=True)])
    found = requests.by_arm("r")
    assert found == [
        {"arm": "a@1", "requests": 3, "units": 1, "unsticky": 1, "errors": 1},
        {"arm": "a@2", "requests": 1, "units": 1, "unsticky": 0, "errors": 0},
    ]
    assert [row["arm"] for row in requests.by_arm("r", since=4.0)] == ["a@2"]


@pytest.mark.parametrize("count", [1, 9, 110, 211])
def test_every_row_of_a_batch_is_stored(requests: Requests, count: int) -> None:
    """Rows go in by blocks of several sizes; none is lost and none twice."""
    rows = [RequestRow(f"req-{n:032x}", float(n), "completions", route="r") for n in range(count)]
    requests.write(rows)
    assert requests.window("r", limit=1000) == rows


@pytest.mark.parametrize(
    "answer_id", ["chatcmpl-req-" + "0" * 32, "resp_req-" + "0" * 32, "an engine's own", "req-1234"]
)
def test_a_request_is_found_by_its_answers_id(requests: Requests, answer_id: str) -> None:
    """The id in the answer's body finds the request, whether or not the engine made it of ours."""
    row = RequestRow("req-" + "0" * 32, 1.0, "completions", answer_id=answer_id)
    requests.write([row, RequestRow("req-" + "1" * 32, 2.0, "completions", answer_id="another")])
    assert requests.find(answer_id) == requests.find(row.id) == row
    assert requests.find("chatcmpl-req-" + "1" * 32) is None
