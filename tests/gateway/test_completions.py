"""The hot path against the fake engine: what the client got, what the engine received, and the row."""

import json
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Rig

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request to the route `support`."""
    return {"model": "support", "messages": [{"role": "user", "content": "hello"}], **fields}


def events(answer: httpx.Response) -> list[Any]:
    """The data of each event; [DONE] as a string."""
    data = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in data]


def test_a_whole_answer_passes_untouched(rig: Rig) -> None:
    """The client gets the engine's body, the engine the resolved version, the store a full row."""
    answer = rig.http.post(CHAT, json=chat(temperature=0), headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200
    assert answer.json()["model"] == "support@1"
    assert answer.json()["choices"][0]["message"]["content"] == "support@1: w1 w2 w3"
    ours = answer.headers["x-request-id"]
    assert answer.headers["x-client-request-id"] == "mine-1"
    assert answer.headers["x-turnout-route"] == "support"
    assert answer.headers["x-turnout-adapter"] == answer.headers["x-turnout-arm"] == "support@1"
    got = next(e.posts()[0] for e in rig.engines.values() if e.posts())
    salt = got.json["cache_salt"]
    assert got.json == {**chat(temperature=0), "model": "support@1", "cache_salt": salt}
    assert got.headers["x-request-id"] == ours
    row = rig.gateway.row(ours)
    assert (row.status, row.error_code, row.attempts, row.streamed) == (200, None, 1, False)
    assert (row.route, row.arm, row.adapter, row.arm_probability) == (
        "support",
        "support@1",
        "support@1",
        1.0,
    )
    assert (row.prompt_tokens, row.completion_tokens, row.finish_reason) == (7, 4, "length")
    assert (row.prompt, row.answer) == ("hello", "support@1: w1 w2 w3")
    assert row.client_request_id == "mine-1"
    assert row.answer_id == answer.json()["id"] == f"chatcmpl-{ours}"
    assert row.replica in rig.engines
    rig.idle()


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
def test_a_stream_passes_and_hides_only_unasked_usage(rig: Rig, asked: dict[str, bool] | None) -> None:
    """Usage is recorded for every stream; the client sees the usage event only when it asked for it."""
    fields = {} if asked is None else {"stream_options": asked}
    answer = rig.http.post(CHAT, json=chat(stream=True, **fields))
    assert answer.headers["content-type"].startswith("text/event-stream")
    got = events(answer)
    assert got[-1] == "[DONE]"
    text = "".join(e["choices"][0]["delta"]["content"] for e in got[:-1] if e["choices"])
    assert text == "support@1: w1 w2 w3"
    wanted = asked == {"include_usage": True}
    assert [bool(e["choices"]) for e in got[:-1]] == [True] * 5 + [False] * wanted
    sent = next(e.posts()[0] for e in rig.engines.values() if e.posts())
    assert sent.json["stream_options"]["include_usage"] is True
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.streamed, row.prompt_tokens, row.completion_tokens) == (200, True, 7, 4)
    assert row.answer == text
    assert row.ttft_ms is not None
    rig.idle()


def test_the_bytes_of_a_stream_are_the_engines(rig: Rig) -> None:
    """Each event that reaches the client is byte for byte the engine's."""
    ours = rig.http.post(CHAT, json=chat(model="solo@1", stream=True))
    direct = httpx.post(
        rig.engines["e0"].url + CHAT,
        json=chat(model="solo@1", stream=True),
        headers={"x-request-id": ours.headers["x-request-id"]},
    )
    assert ours.content == direct.content


def test_text_completions_work_too(rig: Rig) -> None:
    """`/v1/completions` has the same path: route, stream, row."""
    answer = rig.http.post(TEXT, json={"model": "support", "prompt": "once", "stream": True})
    pieces = [e["choices"][0]["text"] for e in events(answer)[:-1]]
    assert "".join(pieces) == "support@1: w1 w2 w3"
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.endpoint, row.prompt, row.answer) == ("completions", "once", "support@1: w1 w2 w3")


@pytest.mark.parametrize(
    ("model", "said", "engine_model"),
    [
        ("support", ["support", "support@1", "support@1"], "support@1"),
        ("support@1", ["-", "support@1", "-"], "support@1"),
        ("SmolLM2-135M-Instruct", ["-", "base", "-"], "SmolLM2-135M-Instruct"),
        ("base", ["-", "base", "-"], "SmolLM2-135M-Instruct"),
    ],
)
def test_what_a_model_may_name(rig: Rig, model: str, said: list[str], engine_model: str) -> None:
    """A route, a pinned version and the base model each resolve, and the headers say to what."""
    answer = rig.http.post(CHAT, json=chat(model=model))
    assert answer.json()["model"] == engine_model
    assert [answer.headers[f"x-turnout-{name}"] for name in ("route", "adapter", "arm")] == said


REFUSED = [
    ({"model": ""}, 404, "model_not_found"),
    ({"model": None}, 404, "model_not_found"),
    ({"model": 3}, 404, "model_not_found"),
    ({"model": "suport"}, 404, "model_not_found"),
    ({"model": "support@9"}, 404, "model_not_found"),
    ({"model": "lost@1"}, 503, "cold_load_timeout"),
    ({"stream": "yes"}, 400, "invalid_value"),
    ({"stream": True, "stream_options": [1]}, 400, "invalid_value"),
    ({"no_such_field": 1}, 400, "unknown_parameter"),
    ({"messages": "hello"}, 400, "invalid_value"),
    ({"messages": ["hello"]}, 400, "invalid_value"),
    ({"cache_salt": "x"}, 400, "unsupported_parameter"),
    ({"priority": 1}, 400, "unsupported_parameter"),
    ({"request_id": "x"}, 400, "unsupported_parameter"),
    ({"kv_transfer_params": {}}, 400, "unsupported_parameter"),
    ({"prompt_logprobs": 1}, 400, "unsupported_parameter"),
    ({"echo": True}, 400, "unsupported_parameter"),
]


@pytest.mark.parametrize(("fields", "status", "code"), REFUSED)
def test_refused_fields_cost_nothing_upstream(
    rig: Rig, fields: dict[str, Any], status: int, code: str | None
) -> None:
    """A wrong field gets a 4xx in OpenAI's form, a row, and never reaches an engine."""
    answer = rig.http.post(CHAT, json=chat(**fields))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], set(error)) == (code, {"message", "type", "param", "code"})
    assert rig.posted() == 0
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.attempts) == (status, 0)
    rig.idle()


def test_a_request_that_comes_too_early_is_recorded_with_its_route(rig: Rig) -> None:
    """A route whose first version is not served yet answers 503, and the row says which route it was."""
    rig.gateway.store.version("early")
    rig.gateway.settle()
    answer = rig.http.post(CHAT, json=chat(model="early"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "route_not_ready")
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.route, row.arm, row.adapter, row.error_code) == ("early", None, "", "route_not_ready")


def test_an_unknown_model_gets_a_hint(rig: Rig) -> None:
    """A misspelt route is answered with close names."""
    message = rig.http.post(CHAT, json=chat(model="suport")).json()["error"]["message"]
    assert "did you mean 'support'" in message


BAD_BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"{", {}, 400),
    (b"[]", {}, 400),
    (b'"x"', {}, 400),
    (b"", {}, 400),
    (b'{"model": NaN}', {}, 400),
    (b'{"model": "\\ud800"}', {}, 400),
    (b"\xff\xfe", {}, 400),
    (b"[" * 50_000, {}, 400),
    (b'{"a":' * 9_000, {}, 400),
    (b'{"model": "support", "model": "solo"}', {}, 400),
    (b'{"model": "support", "metadata": {"a": 1, "a": 2}}', {}, 400),
    (b'{"model": "support", "seed": 123456789012345678901234567890}', {}, 400),
    (b'{"model": "support", "metadata": {"x": 1e400}}', {}, 400),
    (b'\xef\xbb\xbf{"model": "support"}', {}, 400),
    (b'{"model": "support"} {}', {}, 400),
    (b'{"model": "support"}', {"content-type": ""}, 415),
    (b'{"model": "support"}', {"content-type": "application/x-www-form-urlencoded"}, 415),
    (b'{"model": "support"}', {"content-encoding": "br"}, 415),
    (b'{"model": "support"}', {"content-type": "text/plain"}, 415),
    (b'{"model": "support"}', {"content-encoding": "gzip"}, 415),
    (b'{"model": "' + b"x" * 70_000 + b'"}', {}, 413),
]


@pytest.mark.parametrize(("body", "headers", "status"), BAD_BODIES)
def test_bad_bodies(rig: Rig, body: bytes, headers: dict[str, str], status: int) -> None:
    """Anything but a JSON object of bounded size is a clear 4xx."""
    answer = rig.http.post(CHAT, content=body, headers={"content-type": "application/json", **headers})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert rig.posted() == 0


@pytest.mark.parametrize("number", ["123456789012345678901234567890", "1e400"])
def test_a_prompt_of_impossible_tokens(rig: Rig, number: str) -> None:
    """Numbers that can't be written again are refused before the prompt is captured."""
    raw = f'{{"model": "support", "prompt": [{number}]}}'
    answer = rig.http.post(TEXT, content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_nested_model_key_is_no_duplicate(rig: Rig) -> None:
    """A name may occur again in another object."""
    assert rig.http.post(CHAT, json=chat(metadata={"model": "x"})).status_code == 200


FAULTS = [
    ({"fail_status": 500}, 502, "upstream_failed", 1),
    ({"fail_status": 400}, 400, None, 1),
    ({"fail_status": 429}, 429, "engine_busy", 2),
    ({"fail_status": 503}, 503, "engine_unavailable", 2),
    ({"close_before_headers": True}, 502, "upstream_failed", 2),
    ({"endless_headers": True}, 502, "upstream_failed", 1),
    ({"hang": True}, 504, "upstream_timeout", 1),
    ({"answer_as_base": True}, 502, "wrong_model", 1),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("knobs", "status", "code", "attempts"), FAULTS)
def test_an_engine_that_fails(
    rig: Rig, knobs: dict[str, Any], status: int, code: str | None, attempts: int, *, stream: bool
) -> None:
    """Each fault has its status, its number of attempts and its row; no internals reach the client."""
    for engine in rig.engines.values():
        for name, value in knobs.items():
            setattr(engine.knobs, name, value)
    if "hang" in knobs:
        rig.never_answer()
    answer = rig.http.post(CHAT, json=chat(stream=stream))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "/opt/engine" not in answer.text or status == 400
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.attempts) == (status, attempts)
    assert rig.posted() == attempts
    rig.idle()


def test_a_wrong_version_is_counted(rig: Rig) -> None:
    """An answer from another version than the one that was meant never passes, and is counted."""
    sample = 'turnout_wrong_model_total{adapter="solo@1"}'
    before = rig.gateway.metric(sample)
    rig.engines["e0"].knobs.answer_as_base = True
    answer = rig.http.post(CHAT, json=chat(model="solo", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "wrong_model")
    assert rig.gateway.metric(sample) == before + 1


@pytest.mark.parametrize("knob", ["drop_after_chunks", "error_after_chunks", "end_after_chunks"])
def test_a_stream_that_breaks_ends_with_an_error_event(rig: Rig, knob: str) -> None:
    """A stream that breaks midway ends with an error event and without [DONE]."""
    for engine in rig.engines.values():
        setattr(engine.knobs, knob, 3)
    answer = rig.http.post(CHAT, json=chat(stream=True))
    got = events(answer)
    assert answer.status_code == 200
    assert [set(e) >= {"choices"} for e in got] == [True] * 3 + [False]
    assert got[-1]["error"]["code"] == "upstream_failed"
    assert "secret" not in answer.text
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.error_code, row.attempts) == (502, "upstream_failed", 1)
    assert rig.posted() == 1
    rig.idle()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_replica_is_passed_over(rig: Rig, status: int) -> None:
    """A refusal of one replica is retried on another, and the client never knows."""
    rig.engines["e0"].knobs.fail_status = status
    rows = []
    for _ in range(4):
        answer = rig.http.post(CHAT, json=chat())
        assert answer.status_code == 200
        rows.append(rig.gateway.row(answer.headers["x-request-id"]))
    assert {row.replica for row in rows} == {"e1"}
    assert {row.attempts for row in rows} == {1, 2}


def test_a_missed_registration_is_retried_elsewhere(rig: Rig) -> None:
    """The engine's 404 for an adapter sends the request to another replica that has it."""
    forgotten = rig.engines["e0"]._paths.pop("support@1")
    try:
        answers = [rig.http.post(CHAT, json=chat()) for _ in range(4)]
        assert {answer.status_code for answer in answers} == {200}
        assert rig.engines["e0"].posts()
        lonely = rig.http.post(CHAT, json=chat(model="solo"))
        assert lonely.status_code == 200
    finally:
        rig.engines["e0"]._paths["support@1"] = forgotten


def test_an_adapter_that_no_replica_has_registered(rig: Rig) -> None:
    """When the only replica misses a registration the client is told to come again."""
    forgotten = rig.engines["e0"]._paths.pop("solo@1")
    try:
        answer = rig.http.post(CHAT, json=chat(model="solo"))
    finally:
        rig.engines["e0"]._paths["solo@1"] = forgotten
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_not_registered")
    assert answer.headers["retry-after"] == "1"


def test_prompts_are_redacted(rig: Rig) -> None:
    """Captured text has no addresses or keys in it, unless the route says otherwise."""
    said = "write to ann@example.com with sk-abcdefghijklmnopqrstuv"
    answer = rig.http.post(CHAT, json=chat(messages=[{"role": "user", "content": said}]))
    assert rig.gateway.row(answer.headers["x-request-id"]).prompt == "write to [E-MAIL] with [KEY]"


def test_a_route_without_capture_keeps_no_text(rig: Rig) -> None:
    """By default neither prompt nor answer is stored."""
    row = rig.gateway.row(rig.http.post(CHAT, json=chat(model="solo")).headers["x-request-id"])
    assert (row.prompt, row.answer) == (None, None)


def test_the_subject_is_sticky_and_pseudonymous(rig: Rig) -> None:
    """The header wins over the body's user; the row holds a pseudonym, never the subject."""
    by_header = rig.http.post(CHAT, json=chat(user="bob"), headers={"x-turnout-subject": "ann"})
    by_body = rig.http.post(CHAT, json=chat(user="ann"))
    nobody = rig.http.post(CHAT, json=chat())
    units = [rig.gateway.row(a.headers["x-request-id"]).unit for a in (by_header, by_body, nobody)]
    assert units[0] == units[1] is not None
    assert units[2] is None
    assert "ann" not in str(units[0])
