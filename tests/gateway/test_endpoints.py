"""Every endpoint of the hot path against the fake engine: answers, rows, models, errors, broken streams."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gateway.core.requests import Role
from tests import fake_engine
from tests.gateway.conftest import Rig
from tests.gateway.harness import Gateway, running, settings_for

pytestmark = pytest.mark.slow

SAID = "support@1: w1 w2 w3"


@dataclass(frozen=True)
class Case:
    """One endpoint: a request to it, and how to read its answers."""

    path: str
    body: dict[str, Any]
    anthropic: bool = False
    prompt: str = "hello"
    prefix: str = ""
    ends_with: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.removeprefix("/v1").removeprefix("/")

    def text(self, answer: dict[str, Any]) -> str:
        """The text of a whole answer."""
        if "output" in answer:
            return str(answer["output"][0]["content"][0]["text"])
        if "content" in answer:
            return str(answer["content"][0]["text"])
        choice = answer["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])


MESSAGES = [{"role": "user", "content": "hello"}]
GENERATING = [
    Case("/v1/chat/completions", {"messages": MESSAGES}, prefix="chatcmpl-"),
    Case("/v1/completions", {"prompt": "hello"}, prefix="cmpl-"),
    Case("/v1/responses", {"input": "hello"}, prefix="resp_", ends_with={"type": "response.completed"}),
    Case(
        "/v1/messages",
        {"messages": MESSAGES, "max_tokens": 4},
        anthropic=True,
        prefix="chatcmpl-",
        ends_with={"type": "message_stop"},
    ),
]
COUNTING = [
    Case("/v1/messages/count_tokens", {"messages": MESSAGES}, anthropic=True),
    Case("/tokenize", {"prompt": "hello you"}),
    Case("/tokenize", {"messages": MESSAGES}),
    Case("/detokenize", {"tokens": [1, 2]}),
]
ALL = [*GENERATING, *COUNTING]
generating = pytest.mark.parametrize("case", GENERATING, ids=lambda case: case.path)
every = pytest.mark.parametrize("case", ALL, ids=lambda case: case.path)


def ask(rig: Rig, case: Case, **fields: Any) -> httpx.Response:
    """Send the case's request, to the route `support` when nothing else is said."""
    return rig.http.post(case.path, json={"model": "support", **case.body, **fields})


def events(answer: httpx.Response) -> list[tuple[str | None, Any]]:
    """The events of a stream: name and data; [DONE] is a string."""
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in lines:
            data = lines["data"]
            found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


def error_of(answer: httpx.Response, case: Case) -> dict[str, Any]:
    """The error of an answer, in the form of its dialect."""
    body = answer.json()
    if case.anthropic:
        assert set(body) == {"type", "error"}
        assert body["type"] == "error"
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


@generating
def test_whole_answers(rig: Rig, case: Case) -> None:
    """The client gets the engine's body; the row has tokens, finish reason, both texts and its id."""
    answer = ask(rig, case)
    assert answer.status_code == 200
    assert case.text(answer.json()) == SAID
    ours = answer.headers["x-request-id"]
    row = rig.gateway.row(ours)
    assert (row.endpoint, row.status, row.adapter, row.streamed) == (case.name, 200, "support@1", False)
    assert (row.prompt_tokens, row.completion_tokens, row.finish_reason) == (7, 4, "length")
    assert (row.prompt, row.answer) == ("hello", SAID)
    assert row.answer_id == answer.json()["id"] == f"{case.prefix}{ours}"
    assert (answer.headers.get("request-id") == ours) == case.anthropic
    rig.idle()


@generating
def test_streams(rig: Rig, case: Case) -> None:
    """A stream has the same row, its events are the engine's, and it ends as its endpoint's streams end."""
    answer = ask(rig, case, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    got = events(answer)
    if case.ends_with:
        assert got[-1][1].items() >= case.ends_with.items()
        assert all(name == event["type"] for name, event in got)
    else:
        assert got[-1] == (None, "[DONE]")
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.endpoint, row.status, row.streamed) == (case.name, 200, True)
    assert (row.prompt_tokens, row.completion_tokens, row.finish_reason) == (7, 4, "length")
    assert row.answer == SAID
    assert row.answer_id == f"{case.prefix}{row.id}"
    assert row.ttft_ms is not None
    rig.idle()


@generating
def test_who_leaves_with_the_last_event_has_had_all(rig: Rig, case: Case) -> None:
    """Such a client has not abandoned its stream, though the engine's body has not ended yet."""
    for engine in rig.engines.values():
        engine.knobs.linger_s = 0.3
    last = case.ends_with["type"] if case.ends_with else "[DONE]"
    body = {"model": "support", **case.body, "stream": True}
    with rig.http.stream("POST", case.path, json=body) as answer:
        for piece in answer.iter_text():
            if last in piece:
                break
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.error_code, row.answer) == (200, None, SAID)
    rig.idle()


@generating
def test_what_the_gateway_sets(rig: Rig, case: Case) -> None:
    """The engine gets the version's name and the tenant's salt, stores nothing, and always reports usage."""
    answer = ask(rig, case, stream=True)
    sent = next(e.posts(case.path)[0] for e in rig.engines.values() if e.posts(case.path)).json
    assert (sent["model"], len(sent["cache_salt"])) == ("support@1", 64)
    assert "priority" not in sent
    if case.path == "/v1/responses":
        assert (sent["store"], sent["request_id"]) == (False, f"resp_{answer.headers['x-request-id']}")
    else:
        assert "store" not in sent
        assert "request_id" not in sent
    if case.path.endswith("completions"):
        assert sent["stream_options"]["include_usage"] is True


@pytest.mark.parametrize("case", COUNTING, ids=lambda case: case.path)
def test_counting_endpoints(rig: Rig, case: Case) -> None:
    """They pass as they are; their rows have neither text nor tokens, since nothing was generated."""
    answer = ask(rig, case)
    assert answer.status_code == 200
    assert {"input_tokens", "count", "prompt"} & set(answer.json())
    sent = next(e.posts(case.path)[0] for e in rig.engines.values() if e.posts(case.path)).json
    assert sent == {**case.body, "model": "support@1"}
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.endpoint, row.status, row.route) == (case.name, 200, "support")
    assert (row.prompt, row.answer, row.prompt_tokens, row.completion_tokens) == (None, None, None, None)
    rig.idle()


@every
@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"model": "suport"}, 404, "not_found_error"),
        ({"model": ""}, 404, "not_found_error"),
        ({"model": None}, 404, "not_found_error"),
        ({"model": "lost@1"}, 503, "overloaded_error"),
        ({"no_such": 1}, 400, "invalid_request_error"),
    ],
)
def test_errors_follow_the_dialect(
    rig: Rig, case: Case, fields: dict[str, Any], status: int, kind: str
) -> None:
    """Each endpoint resolves the model by the same rules, and refuses in its own dialect."""
    answer = ask(rig, case, **fields)
    assert answer.status_code == status
    error = error_of(answer, case)
    if case.anthropic:
        assert error["type"] == kind
    assert rig.posted(case.path) == 0


@generating
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_version_never_passes(rig: Rig, case: Case, *, stream: bool) -> None:
    """In every shape of answer the echoed model is found and compared."""
    for engine in rig.engines.values():
        engine.knobs.answer_as_base = True
    answer = ask(rig, case, stream=stream)
    assert answer.status_code == 502
    assert "another version" in error_of(answer, case)["message"]
    assert rig.gateway.row(answer.headers["x-request-id"]).error_code == "wrong_model"


@generating
@pytest.mark.parametrize("knob", ["drop_after_chunks", "error_after_chunks", "end_after_chunks"])
def test_a_broken_stream_ends_with_an_error_event(rig: Rig, case: Case, knob: str) -> None:
    """However a stream breaks, its last event is an error in its dialect, and no end mark follows."""
    for engine in rig.engines.values():
        setattr(engine.knobs, knob, 3)
    answer = ask(rig, case, stream=True)
    got = events(answer)
    assert len(got) == 4
    name, last = got[-1]
    assert "secret" not in answer.text
    assert "engine broke off" in (last["error"]["message"])
    if case.anthropic:
        assert (name, last["type"], last["error"]["type"]) == ("error", "error", "api_error")
    elif case.path == "/v1/responses":
        assert (name, last["type"], last["sequence_number"]) == ("error", "error", 3)
        assert (last["code"], last["message"]) == ("upstream_failed", last["error"]["message"])
    else:
        assert (name, last["error"]["code"]) == (None, "upstream_failed")
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.error_code) == (502, "upstream_failed")
    rig.idle()


def test_a_wrong_method_and_a_path_below(rig: Rig) -> None:
    """What the router refuses by itself follows the dialect of its path too."""
    wrong = rig.http.get("/v1/messages")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")
    assert wrong.json()["type"] == "error"
    assert rig.http.post("/v1/messages/batches").json()["error"]["type"] == "not_found_error"
    assert rig.http.post("/v1/embeddings").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(("path", "name"), [("/tokenize", "prompt"), ("/detokenize", "prompt")])
def test_what_is_tokenized_is_bounded(locked: "Locked", path: str, name: str) -> None:
    """An engine counts tokens while all other clients wait, so these endpoints take smaller bodies."""
    locked.engine.received.clear()
    key = {"authorization": f"Bearer {locked.keys['red']}"}
    assert locked.ask(path, {name: "x" * 300_000}, key).status_code == 413
    assert locked.engine.posts(path) == []
    assert locked.ask("/v1/completions", {name: "x" * 300_000}, key).status_code == 200


# --- keys ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Locked:
    """A gateway that wants keys, with one of each of two tenants."""

    gateway: Gateway
    engine: fake_engine.FakeEngine
    keys: dict[str, str]

    def ask(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        return httpx.post(self.gateway.url + path, json={"model": "support", **body}, headers=headers)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """One such gateway for the module."""
    with fake_engine.start() as engine, running(settings_for(tmp_path_factory.mktemp("locked"))) as gateway:
        store = gateway.store
        store.engines({"e0": engine})
        label = store.version("support")
        engine.register(label)
        store.attest("e0", engine, label)
        store.route("support", {label: 1.0})
        keys = {tenant: store.key(Role.INFERENCE, tenant=tenant) for tenant in ("red", "blue")}
        gateway.settle()
        yield Locked(gateway, engine, keys)


@every
def test_how_a_key_is_shown(locked: Locked, case: Case) -> None:
    """A bearer token opens every endpoint; `x-api-key` opens Anthropic's, and only those."""
    key = locked.keys["red"]
    assert locked.ask(case.path, case.body, {"authorization": f"Bearer {key}"}).status_code == 200
    assert locked.ask(case.path, case.body, {"x-api-key": key}).status_code == (
        200 if case.anthropic else 401
    )
    wrong = {"x-api-key": "tk-nobody", "authorization": f"Bearer {key}"}
    assert locked.ask(case.path, case.body, wrong).status_code == (401 if case.anthropic else 200)
    nobody = locked.ask(case.path, case.body, {})
    assert nobody.status_code == 401
    assert error_of(nobody, case)["type"] == (
        "authentication_error" if case.anthropic else "invalid_request_error"
    )


def test_tenants_never_share_a_prefix_cache(locked: Locked) -> None:
    """A tenant has one salt, on every endpoint, and another tenant has another one."""
    for tenant in ("red", "blue"):
        for case in GENERATING:
            headers = {"authorization": f"Bearer {locked.keys[tenant]}"}
            locked.engine.received.clear()
            salts = set()
            for _ in range(2):
                locked.ask(case.path, case.body, headers)
            salts |= {request.json["cache_salt"] for request in locked.engine.posts(case.path)}
            assert len(salts) == 1
            assert tenant not in next(iter(salts))
    locked.engine.received.clear()
    for tenant in ("red", "blue"):
        headers = {"authorization": f"Bearer {locked.keys[tenant]}"}
        locked.ask("/v1/completions", {"prompt": "x"}, headers)
        locked.ask("/v1/messages", GENERATING[3].body, headers)
    got = [request.json["cache_salt"] for request in locked.engine.received if request.method == "POST"]
    assert (got[0], got[2]) == (got[1], got[3])
    assert got[0] != got[2]
