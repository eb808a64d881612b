"""What is read in the answers of each endpoint. The bytes are those of vLLM 0.32, shortened."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.reading import Reading, StreamReading, WrongModel, read_whole
from gateway.upstream.shapes import CHOICES, MESSAGES, PLAIN, RESPONSES, Shape


def named(*events: dict[str, Any]) -> list[bytes]:
    """Events with names, as `/v1/responses` and `/v1/messages` send them."""
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def plain(*events: Any) -> list[bytes]:
    """Events without names, as the other endpoints send them."""
    return [
        f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode() for event in events
    ]


RESPONSE = {"id": "resp_1", "model": "a@1", "object": "response"}
OUTPUT = [
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "content": [{"type": "output_text", "text": "two words", "annotations": []}]},
]
CALL = {"type": "function_call", "name": "f", "arguments": "{}"}
USED = {"input_tokens": 32, "output_tokens": 5, "total_tokens": 37}
MESSAGE = {"id": "m-1", "type": "message", "model": "a@1", "content": []}
CHUNK = {"id": "c-1", "object": "chat.completion.chunk", "model": "a@1"}


@dataclass(frozen=True)
class Answer:
    """An answer in both forms, and what must be read in it."""

    shape: Shape
    whole: dict[str, Any]
    stream: list[bytes]
    answer_id: str
    text: str
    reason: str
    tokens: tuple[int, int] = (32, 5)


ANSWERS = {
    "chat": Answer(
        CHOICES,
        {
            "id": "c-1",
            "model": "a@1",
            "choices": [
                {"index": 0, "message": {"content": "two words"}, "finish_reason": "stop"},
                {"index": 1, "message": {"content": "another"}, "finish_reason": "length"},
            ],
            "usage": {"prompt_tokens": 32, "completion_tokens": 5},
        },
        plain(
            {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
            {**CHUNK, "choices": [{"index": 0, "delta": {"content": "two "}}]},
            {**CHUNK, "choices": [{"index": 1, "delta": {"content": "other"}}]},
            {**CHUNK, "choices": [{"index": 0, "delta": {"content": "words"}, "finish_reason": "stop"}]},
            {**CHUNK, "choices": [], "usage": {"prompt_tokens": 32, "completion_tokens": 5}},
            "[DONE]",
        ),
        "c-1",
        "two words",
        "stop",
    ),
    "responses": Answer(
        RESPONSES,
        {**RESPONSE, "output": OUTPUT, "status": "completed", "usage": USED},
        named(
            {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "usage": None}},
            {"type": "response.in_progress", "response": {**RESPONSE, "status": "in_progress"}},
            {"type": "response.output_text.delta", "delta": "two ", "output_index": 0},
            {"type": "response.output_text.delta", "delta": "words", "output_index": 0},
            {"type": "response.output_text.done", "text": "two words"},
            {
                "type": "response.completed",
                "response": {**RESPONSE, "output": OUTPUT, "status": "completed", "usage": USED},
            },
        ),
        "resp_1",
        "two words",
        "stop",
    ),
    "responses, cut short": Answer(
        RESPONSES,
        {
            **RESPONSE,
            "output": [],
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": USED,
        },
        named(
            {"type": "response.created", "response": RESPONSE},
            {
                "type": "response.completed",  # vLLM's name for the end, whatever the status
                "response": {
                    **RESPONSE,
                    "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                    "usage": USED,
                },
            },
        ),
        "resp_1",
        "",
        "length",
    ),
    "responses, a call": Answer(
        RESPONSES,
        {**RESPONSE, "output": [CALL], "status": "completed", "usage": USED},
        named(
            {"type": "response.created", "response": RESPONSE},
            {"type": "response.function_call_arguments.delta", "delta": "{}"},
            {
                "type": "response.completed",
                "response": {**RESPONSE, "output": [CALL], "status": "completed", "usage": USED},
            },
        ),
        "resp_1",
        "",
        "tool_calls",
    ),
    "messages": Answer(
        MESSAGES,
        {
            **MESSAGE,
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "two words"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 30, "cache_read_input_tokens": 2, "output_tokens": 5},
        },
        named(
            {
                "type": "message_start",
                "message": {**MESSAGE, "usage": {"input_tokens": 32, "output_tokens": 0}},
            },
            {"type": "ping"},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "thinking_delta", "thinking": "hm"},
            },
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "two "}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "words"}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"input_tokens": 32, "output_tokens": 5},
            },
            {"type": "message_stop"},
        ),
        "m-1",
        "two words",
        "stop",
    ),
}
every = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)


def learnt(reading: Reading) -> tuple[Any, ...]:
    """All that was read."""
    return (
        reading.answer_id,
        reading.text,
        reading.finish_reason,
        (reading.prompt_tokens, reading.completion_tokens),
        reading.done,
    )


@every
def test_both_forms_of_an_answer_say_the_same(answer: Answer) -> None:
    """Whole or streamed, the same id, text, reason and tokens are read, and the events pass untouched."""
    expected = (answer.answer_id, answer.text, answer.reason, answer.tokens, True)
    whole = Reading("a@1", text_limit=100, shape=answer.shape)
    read_whole(json.dumps(answer.whole).encode(), whole)
    assert learnt(whole) == expected
    streamed = Reading("a@1", text_limit=100, shape=answer.shape)
    stream = StreamReading(streamed, hide_usage=False)
    assert b"".join(stream.feed(event) for event in answer.stream) == b"".join(answer.stream)
    assert learnt(streamed) == expected


@every
def test_a_stream_is_not_done_before_its_end(answer: Answer) -> None:
    """Until the endpoint's own end mark has come, the stream counts as broken."""
    reading = Reading("a@1", shape=answer.shape)
    stream = StreamReading(reading, hide_usage=False)
    for event in answer.stream[:-1]:
        stream.feed(event)
    assert not reading.done
    assert stream.engine_error is None


@every
def test_the_first_event_must_name_the_version(answer: Answer) -> None:
    """Another version, or no name at all, passes nothing in any shape."""
    for first in (answer.stream[0], answer.stream[0].replace(b'"model"', b'"other"')):
        with pytest.raises(WrongModel):
            StreamReading(Reading("b@2", shape=answer.shape), hide_usage=False).feed(first)
    with pytest.raises(WrongModel):
        read_whole(json.dumps(answer.whole).encode(), Reading("b@2", shape=answer.shape))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("chat", b'data: {"error": {"message": "boom"}}\n\n'),
        ("responses", b'event: error\ndata: {"type": "error", "message": "boom"}\n\n'),
        ("responses", b'data: {"error": {"message": "boom"}}\n\n'),
        (
            "responses",
            b'data: {"type": "response.failed", "response": {"error": {"message": "boom"}}}\n\n',
        ),
        ("messages", b'event: error\ndata: {"type": "error", "error": {"message": "boom"}}\n\n'),
    ],
)
def test_the_engines_own_error(name: str, fault: bytes) -> None:
    """The engine's error event is kept back, in each of its forms, and nothing passes after it."""
    answer = ANSWERS[name]
    stream = StreamReading(Reading("a@1", shape=answer.shape), hide_usage=False)
    assert stream.feed(answer.stream[0] + fault + answer.stream[-1]) == answer.stream[0]
    assert "boom" in str(stream.engine_error)


@pytest.mark.parametrize(
    "said", [{"count": 2, "tokens": [1, 2]}, {"prompt": "x"}, {"input_tokens": 3}, {"model": "whatever"}]
)
def test_answers_that_name_no_model(said: dict[str, Any]) -> None:
    """Counts are read as nothing at all, and are not refused for naming no model."""
    reading = Reading("a@1", text_limit=100, shape=PLAIN)
    read_whole(json.dumps(said).encode(), reading)
    assert learnt(reading) == (None, "", None, (None, None), True)


@pytest.mark.parametrize("shape", [CHOICES, RESPONSES, MESSAGES])
@pytest.mark.parametrize("odd", [None, 3, "x", [], [3], {"a": 1}])
def test_odd_answers_do_no_harm(shape: Shape, odd: object) -> None:
    """Fields of other types than the shape's are passed over."""
    names = ("choices", "usage", "output", "content", "stop_reason", "status", "incomplete_details", "id")
    reading = Reading("a@1", text_limit=100, shape=shape)
    who = {"model": "a@1", "object": "response", "type": "message"}
    read_whole(json.dumps({**who, **dict.fromkeys(names, odd)}).encode(), reading)
    assert reading.prompt_tokens is None


_CHOICE = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2),
        "delta": st.fixed_dictionaries(
            {"content": st.sampled_from(["w", '"finish_reason":null', '"usage":{', '\\"error\\":', "é\n"])}
        ),
        "finish_reason": st.sampled_from([None, None, "stop", "length"]),
    }
)
_EVENT = st.fixed_dictionaries(
    {"model": st.just("a@1"), "id": st.just("c-1"), "choices": st.lists(_CHOICE, max_size=2)},
    optional={
        "usage": st.sampled_from([None, {"prompt_tokens": 3, "completion_tokens": 2}]),
        "error": st.sampled_from([None, {"message": "boom"}]),
    },
)


@given(st.lists(_EVENT, min_size=1, max_size=6))
def test_an_event_that_is_not_read_says_nothing(some: list[dict[str, Any]]) -> None:
    """Passing over events of mere text learns the same and passes the same bytes as reading all of them."""
    compact = [b"data: " + json.dumps(e, separators=(",", ":")).encode() + b"\n\n" for e in some]
    told = []
    for shape in (CHOICES, replace(CHOICES, idle=lambda _: False)):
        reading = Reading("a@1", shape=shape)
        events = StreamReading(reading, hide_usage=True)
        passed = [events.feed(event) for event in compact]
        told.append(
            (passed, reading.finish_reason, reading.prompt_tokens, events.engine_error, events.events)
        )
    assert told[0] == told[1]
