"""Requests for JSON on the hot path: whether the answer is that stands in the row, and its text does not."""

import json
from typing import Any

import pytest

from gateway.upstream.reading import Reading, StreamReading, read_whole
from gateway.upstream.shapes import CHOICES, MESSAGES, RESPONSES, Shape
from tests.gateway.conftest import Rig

pytestmark = pytest.mark.slow

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
HELLO = [{"role": "user", "content": "hello"}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "response_format": FORMAT},
    "/v1/completions": {"prompt": "hello", "structured_outputs": {"json": SCHEMA}},
    "/v1/responses": {"input": "hello", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "/v1/messages": {
        "messages": HELLO,
        "max_tokens": 100,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    },
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_an_answer_is_checked_against_its_schema(rig: Rig, path: str, stream: bool) -> None:
    """Whole or streamed, in every dialect; no text is stored where the route captures none."""
    for says, valid in (('{"a": 12345}', True), ('{"a": "12345"}', False), ("Sure! {}", False)):
        for engine in rig.engines.values():
            engine.knobs.says = says
        body = {**ENDPOINTS[path], "model": "solo", "stream": stream}
        answer = rig.http.post(path, json=body)
        assert answer.status_code == 200
        row = rig.gateway.row(answer.headers["x-request-id"])
        assert (row.schema_valid, row.prompt, row.answer) == (valid, None, None)


def test_an_answer_that_was_cut_off_is_not_what_was_asked_for(rig: Rig) -> None:
    """Half an object is none, whatever the engine's grammar would have made of the rest."""
    for engine in rig.engines.values():
        engine.knobs.says = '{"a": 12345}'
    body = {**ENDPOINTS["/v1/chat/completions"], "model": "solo", "max_tokens": 2}
    row = rig.gateway.row(rig.http.post("/v1/chat/completions", json=body).headers["x-request-id"])
    assert (row.schema_valid, row.finish_reason) == (False, "length")


def test_what_asks_for_nothing_is_not_judged(rig: Rig) -> None:
    """A request without a format, one that is refused, and one that fails have no verdict."""
    chat = {"model": "solo", "messages": HELLO}
    wanted = {**chat, "response_format": FORMAT}
    plain = rig.http.post("/v1/chat/completions", json=chat)
    texts = rig.http.post("/v1/chat/completions", json={**chat, "response_format": {"type": "text"}})
    unknown = rig.http.post("/v1/chat/completions", json={**wanted, "model": "nobody"})
    for engine in rig.engines.values():
        engine.knobs.fail_status = 500
    failed = rig.http.post("/v1/chat/completions", json=wanted)
    answers = (plain, texts, unknown, failed)
    assert [answer.status_code for answer in answers] == [200, 200, 404, 502]
    for answer in answers:
        assert rig.gateway.row(answer.headers["x-request-id"]).schema_valid is None


def test_captured_text_is_cut_as_ever(rig: Rig) -> None:
    """What is kept to be checked is more than is captured, and is stored no more for it."""
    long = json.dumps({"a": 1, "b": "x" * 20_000})
    for engine in rig.engines.values():
        engine.knobs.says = long
    body = {**ENDPOINTS["/v1/chat/completions"], "model": "support"}
    row = rig.gateway.row(rig.http.post("/v1/chat/completions", json=body).headers["x-request-id"])
    limit = rig.gateway.app.state.gateway.recorder.max_text_chars
    assert (row.schema_valid, row.answer) == (True, long[:limit])


CALLED = [("f", '{"a": 1}'), ("g", "{}")]
CHAT_CALLS = [
    {
        "index": number,
        "id": f"c{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    for number, (name, arguments) in enumerate(CALLED)
]
_HEAD = {"id": "c-1", "object": "chat.completion.chunk", "model": "a@1"}


def _delta(call: dict[str, Any]) -> dict[str, Any]:
    return {**_HEAD, "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


CHAT_STREAM = [
    _delta({"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}),
    _delta({"index": 0, "function": {"arguments": '{"a"'}}),
    _delta({"index": 0, "function": {"arguments": ": 1}"}}),
    _delta({"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
    {**_HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
]
RESPONSE = {
    "id": "resp_1",
    "model": "a@1",
    "object": "response",
    "status": "completed",
    "output": [{"type": "function_call", "name": name, "arguments": arguments} for name, arguments in CALLED],
}
RESPONSE_STREAM = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {"type": "response.completed", "response": RESPONSE},
]
MESSAGE = {
    "id": "m-1",
    "type": "message",
    "model": "a@1",
    "stop_reason": "tool_use",
    "content": [
        {"type": "tool_use", "name": name, "input": json.loads(arguments)} for name, arguments in CALLED
    ],
}
MESSAGE_STREAM = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "name": "f", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"a"'},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": ": 1}"},
    },
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "name": "g", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    {"type": "message_stop"},
]
CHAT_WHOLE = {
    **_HEAD,
    "choices": [
        {"index": 0, "message": {"content": None, "tool_calls": CHAT_CALLS}, "finish_reason": "tool_calls"}
    ],
}


@pytest.mark.parametrize(
    ("shape", "whole", "stream"),
    [
        (CHOICES, CHAT_WHOLE, CHAT_STREAM),
        (RESPONSES, RESPONSE, RESPONSE_STREAM),
        (MESSAGES, MESSAGE, MESSAGE_STREAM),
    ],
    ids=["chat", "responses", "messages"],
)
def test_calls_of_tools_are_read(shape: Shape, whole: dict[str, Any], stream: list[dict[str, Any]]) -> None:
    """Names and arguments, whole or in pieces, where they are wanted and nowhere else."""
    reading = Reading("a@1", text_limit=1000, shape=shape, keeps_calls=True)
    read_whole(json.dumps(whole).encode(), reading)
    assert [(name, json.loads(arguments)) for name, arguments in reading.calls] == [
        ("f", {"a": 1}),
        ("g", {}),
    ]
    for keeps in (True, False):
        reading = Reading("a@1", text_limit=1000, shape=shape, keeps_calls=keeps)
        events = StreamReading(reading, hide_usage=False)
        for event in stream:
            events.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        assert reading.calls == (tuple(CALLED) if keeps else ())
        assert reading.finish_reason == "tool_calls"


def test_calls_are_kept_up_to_the_limit() -> None:
    """Arguments without an end fill no memory."""
    reading = Reading("a@1", text_limit=100, shape=CHOICES, keeps_calls=True)
    for _ in range(1000):
        reading.call(0, None, "x" * 10)
    assert len(reading.calls[0][1]) <= 110
