"""No prompt, answer, key or comment stands in any log, whatever goes wrong with the request."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DataError

from gateway import logs
from gateway.store.database import StoreUnavailable
from tests.fake_engine import Knobs
from tests.gateway.conftest import Rig
from tests.gateway.harness import wait_until
from tests.gateway.test_logs import _as_before  # noqa: F401 - logging is left as it was

pytestmark = pytest.mark.slow

SECRET = "xyzzy-swordfish"
KEY = "tk-abcdef12-" + "Sw0rdfish" * 4
CHAT = "/v1/chat/completions"
BACKGROUND = {f"turnout.{name}" for name in ("table", "heartbeat", "limits", "health", "notices")}
MESSAGES = [{"role": "user", "content": f"my password is {SECRET}"}]
ASKED: dict[str, Any] = {"model": "support", "messages": MESSAGES, "temperature": 0}
ECHO = f"bad input: {{'content': '{SECRET}'}}\nDETAIL: {SECRET}"
ENGINES: dict[str, dict[str, Any]] = {
    "well": {},
    "says-the-prompt-with-500": {"fail_status": 500, "fail_message": ECHO},
    "says-the-prompt-with-400": {"fail_status": 400, "fail_message": ECHO},
    "is-busy": {"fail_status": 429, "fail_message": ECHO},
    "drops": {"close_before_headers": True},
    "breaks-off": {"drop_after_chunks": 1, "says": SECRET * 8},
    "answers-as-another": {"answer_as_base": True, "says": SECRET},
}
BODIES: dict[str, bytes] = {
    "no-json": f'{{"model": "support", "messages": [{SECRET}'.encode(),
    "twice": f'{{"model": "{SECRET}", "model": "support"}}'.encode(),
    "unknown-field": json.dumps({**ASKED, SECRET: 1}).encode(),
    "wrong-type": json.dumps({**ASKED, "messages": SECRET}).encode(),
    "too-large": json.dumps({**ASKED, "messages": SECRET * 10_000}).encode(),
}


class Log(io.StringIO):
    """What is logged as JSON, and in `terminal` the same as people see it."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal = io.StringIO()


@pytest.fixture
def log(rig: Rig) -> Iterator[Log]:
    """Everything that is logged while a test runs, at the lowest level, in both forms."""
    stream = Log()
    logs.configure("json", "debug", process="gateway", stream=stream)
    shown = logging.StreamHandler(stream.terminal)
    shown.setFormatter(logs.TextLines("gateway"))
    logging.getLogger().addHandler(shown)
    yield stream
    rig.idle()


def of_requests(log: Log) -> list[dict[str, Any]]:
    """The same without what a worker says of itself, as on a machine that stalls."""
    return [line for line in clean(log) if line["logger"] not in BACKGROUND]


def clean(log: Log) -> list[dict[str, Any]]:
    """What was logged, after looking that no secret is in it."""
    text = log.getvalue()
    for secret in (SECRET, KEY, KEY.rsplit("-", 1)[1]):
        assert secret not in text, text
        assert secret not in log.terminal.getvalue()
    assert bool(text) == bool(log.terminal.getvalue())
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_that_fail(rig: Rig, log: Log, engine: str, streamed: bool) -> None:
    """Whatever an engine does with a prompt, the log names replica and request, and nothing of the prompt."""
    for each in rig.engines.values():
        each.knobs = Knobs(**ENGINES[engine])
    try:
        answer = rig.http.post(CHAT, json={**ASKED, "stream": streamed})
        identity = answer.headers["x-request-id"]
    except httpx.RemoteProtocolError:  # it was broken off, as a stream is
        identity = None
    rig.idle()
    found = clean(log)
    if engine == "says-the-prompt-with-500":
        assert identity in {line.get("request_id") for line in found}


@pytest.mark.parametrize("body", BODIES)
def test_bodies_that_are_refused(rig: Rig, log: Log, body: str) -> None:
    """A body that is refused is not logged."""
    headers = {"content-type": "application/json"}
    assert rig.http.post(CHAT, content=BODIES[body], headers=headers).status_code in (400, 413, 422)
    clean(log)


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_keys(rig: Rig, log: Log, name: str) -> None:
    """Keys that are wrong, and those that are made, are not logged."""
    value = f"Bearer {KEY}" if name == "authorization" else KEY
    for path in (CHAT, "/v1/messages", "/admin/keys", "/v1/models"):
        rig.http.request("GET" if "v1/models" in path else "POST", path, headers={name: value}, json={})
    clean(log)


def test_a_store_that_refuses_a_row(rig: Rig, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a database says of a row that it refuses quotes the row; the log has its first line only."""

    def refuse(*_: object) -> None:
        cause = ValueError(f"value too long\nDETAIL: Failing row contains ({SECRET})")
        error = DataError("INSERT", {"prompt": SECRET}, cause, hide_parameters=True)
        raise StoreUnavailable("value too long") from error

    gateway = rig.gateway.app.state.gateway
    with monkeypatch.context() as patch:
        patch.setattr(gateway.requests, "write", refuse)
        answer = rig.http.post(CHAT, json=ASKED)
        assert answer.status_code == 200
        identity = answer.headers["x-request-id"]  # the row of a test before this one may still be written
        wait_until(lambda: f"{identity} was refused" in log.getvalue())
    (line,) = [line for line in clean(log) if f"{identity} was refused" in line["message"]]
    assert line["request_id"] == identity
    assert "value too long" in json.dumps(line["errors"])


def test_ratings(rig: Rig, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment is not logged, also when the store fails under it."""
    identity = rig.http.post(CHAT, json=ASKED).headers["x-request-id"]

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    gateway = rig.gateway.app.state.gateway
    rating = {"request_id": identity, "metric": "thumbs", "value": True, "comment": SECRET}
    with monkeypatch.context() as patch:
        patch.setattr(gateway.control.feedback, "add", down)
        assert rig.http.post("/v1/feedback", json=rating).status_code == 503
    assert [line["level"] for line in of_requests(log)] == ["warning"]


def test_a_fault_of_our_own(rig: Rig, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that quotes a prompt is logged with its type, its place and its first line cut short."""
    proxy = rig.gateway.app.state.gateway.proxy

    def fault(*_: object, **__: object) -> None:
        raise RuntimeError(f"{'x' * logs.MAX_ERROR_CHARS}{SECRET}\n{SECRET}")

    with monkeypatch.context() as patch:
        patch.setattr(type(proxy), "serve", fault)
        answer = rig.http.post(CHAT, json=ASKED)
    assert answer.status_code == 500
    (line,) = of_requests(log)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["errors"][0]["type"] == "RuntimeError"


def test_nothing_is_logged_of_a_request_that_goes_well(rig: Rig, log: Log) -> None:
    """Requests cost no line."""
    for streamed in (False, True):
        assert rig.http.post(CHAT, json={**ASKED, "stream": streamed}).status_code == 200
    assert of_requests(log) == []
    assert logging.getLogger("turnout").level == logging.DEBUG
