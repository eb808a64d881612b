"""Where each endpoint's answers say who answered, what it cost, why it ended and what was said. Pure.

One `Shape` an endpoint, each verified against vLLM 0.32. Finish reasons are noted in the chat endpoint's
words whatever the endpoint calls them, so that rows compare.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

Object = dict[str, Any]

_MESSAGES_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
_RESPONSES_REASONS: Mapping[str, str] = {"max_output_tokens": "length"}
_RESPONSES_ENDS = ("response.completed", "response.incomplete")
_MAX_REASON_CHARS = 32


@dataclass(slots=True)
class Learnt:
    """What was learnt from one answer. Token counts are None until the engine said them.

    With `keeps_calls` the calls of tools are kept as well, up to the same limit.
    """

    text_limit: int = 0
    keeps_calls: bool = False
    answer_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    done: bool = False
    _text: list[str] | None = None
    _text_chars: int = 0
    _calls: dict[object, list[str]] | None = None
    _call_chars: int = 0

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        """The calls of tools that the first choice makes, as far as they were kept: names and arguments."""
        return tuple((name, "".join(pieces)) for name, *pieces in (self._calls or {}).values())

    @property
    def text(self) -> str:
        """The answer's text, as far as it was kept."""
        return "".join(self._text or ())[: self.text_limit]

    def keep(self, piece: object) -> None:
        """Keep a piece of the first choice's text, up to the limit."""
        if isinstance(piece, str) and self._text_chars < self.text_limit:
            if self._text is None:
                self._text = []
            self._text.append(piece)
            self._text_chars += len(piece)

    def call(self, place: object, name: object, arguments: object) -> None:
        """Keep a piece of a call: its name comes with the first one, its arguments with any."""
        if not self.keeps_calls or self._call_chars > self.text_limit:
            return
        if self._calls is None:
            self._calls = {}
        call = self._calls.setdefault(place, [""])
        if isinstance(name, str) and name:
            call[0] = name
        if isinstance(arguments, str) and arguments:
            call.append(arguments)
            self._call_chars += len(arguments)

    def count(self, prompt_tokens: object, completion_tokens: object) -> None:
        """Take token counts; what is no count changes nothing."""
        if type(prompt_tokens) is int:
            self.prompt_tokens = prompt_tokens
        if type(completion_tokens) is int:
            self.completion_tokens = completion_tokens

    def ended(self, reason: object) -> None:
        """Take why generation ended."""
        if isinstance(reason, str):
            self.finish_reason = reason[:_MAX_REASON_CHARS]


@dataclass(frozen=True, slots=True)
class Shape:
    """How one endpoint answers.

    `whole` learns from an answer that is not streamed, and `event` from one event of a stream; `event`
    returns whether it is usage alone, which the gateway may have asked for by itself. `identity` is the
    object of an answer or event that names model and id, or None where nothing does. `fault` is what an
    event says when the engine breaks off, or None. `idle` tells from an event's bytes that it has nothing but
    text: where no text is kept, it need not be read.
    """

    whole: Callable[[Object, Learnt], None]
    event: Callable[[Object, Learnt], bool]
    identity: Callable[[Object], Object | None]
    fault: Callable[[Object], object]
    names_model: bool = True
    idle: Callable[[bytes], bool] = lambda _: False


# --- /v1/chat/completions and /v1/completions ------------------------------------------------------


def _choices_whole(answer: Object, learnt: Learnt) -> None:
    _take_usage(answer.get("usage"), learnt)
    choice = _first_choice(answer)
    learnt.ended(choice.get("finish_reason"))
    message = choice.get("message")
    learnt.keep(message.get("content") if isinstance(message, dict) else choice.get("text"))
    if learnt.keeps_calls and isinstance(message, dict):
        _function_calls(message.get("tool_calls"), learnt)


def _choices_event(event: Object, learnt: Learnt) -> bool:
    usage = event.get("usage")
    if usage is not None:
        _take_usage(usage, learnt)
        if not event.get("choices"):
            return True
    choice = _first_choice(event)
    if reason := choice.get("finish_reason"):
        learnt.ended(reason)
    if learnt.text_limit:
        delta = choice.get("delta")
        learnt.keep(delta.get("content") if isinstance(delta, dict) else choice.get("text"))
        if learnt.keeps_calls and isinstance(delta, dict):
            _function_calls(delta.get("tool_calls"), learnt)
    return False


def _function_calls(calls: object, learnt: Learnt) -> None:
    for number, call in enumerate(_objects(calls)):
        function = _object_at(call, "function")
        learnt.call(call.get("index", number), function.get("name"), function.get("arguments"))


def _choices_fault(event: Object) -> object:
    return event["error"] if "error" in event and "choices" not in event else None


def _first_choice(answer: Object) -> Object:
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and not choices[0].get("index"):
        return choices[0]
    return {}


def _take_usage(usage: object, learnt: Learnt) -> None:
    if isinstance(usage, dict):
        learnt.count(usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _itself(answer: Object) -> Object:
    return answer


def _choices_idle(data: bytes) -> bool:
    """Look for the names themselves: within a text each of their quotes has a backslash in front of it."""
    return (
        data.find(b'"finish_reason":null') >= 0
        and data.find(b'"finish_reason":"') < 0
        and data.find(b'"usage":') < 0
    )


CHOICES = Shape(_choices_whole, _choices_event, _itself, _choices_fault, idle=_choices_idle)


# --- /v1/responses ---------------------------------------------------------------------------------


def _responses_whole(answer: Object, learnt: Learnt) -> None:
    _end_of_response(answer, learnt)
    for item in _objects(answer.get("output")):
        for part in _objects(item.get("content")):
            if part.get("type") == "output_text":
                learnt.keep(part.get("text"))


def _responses_event(event: Object, learnt: Learnt) -> bool:
    kind = event.get("type")
    if kind == "response.output_text.delta":
        learnt.keep(event.get("delta"))
    elif kind in _RESPONSES_ENDS:
        _end_of_response(_object_at(event, "response"), learnt)
        learnt.done = True
    return False


def _end_of_response(response: Object, learnt: Learnt) -> None:
    usage = _object_at(response, "usage")
    learnt.count(usage.get("input_tokens"), usage.get("output_tokens"))
    if learnt.keeps_calls:
        for number, item in enumerate(_objects(response.get("output"))):
            if item.get("type") == "function_call":
                learnt.call(number, item.get("name"), item.get("arguments"))
    if response.get("status") == "incomplete":
        reason = _object_at(response, "incomplete_details").get("reason")
        learnt.ended(_RESPONSES_REASONS.get(str(reason), reason))
    elif response.get("status") == "completed":
        called = any(item.get("type") == "function_call" for item in _objects(response.get("output")))
        learnt.ended("tool_calls" if called else "stop")


def _responses_identity(event: Object) -> Object | None:
    """Return the response itself, or the one inside `response.created`."""
    if event.get("object") == "response":
        return event
    response = event.get("response")
    return response if isinstance(response, dict) else None


def _responses_fault(event: Object) -> object:
    kind = event.get("type")
    if kind == "response.failed":
        return _object_at(event, "response").get("error") or kind
    return event if kind == "error" else _choices_fault(event) if kind is None else None


RESPONSES = Shape(_responses_whole, _responses_event, _responses_identity, _responses_fault)


# --- /v1/messages ----------------------------------------------------------------------------------


def _messages_whole(answer: Object, learnt: Learnt) -> None:
    _message_usage(answer.get("usage"), learnt)
    reason = answer.get("stop_reason")
    learnt.ended(_MESSAGES_REASONS.get(str(reason), reason))
    for number, block in enumerate(_objects(answer.get("content"))):
        if block.get("type") == "text":
            learnt.keep(block.get("text"))
        elif learnt.keeps_calls and block.get("type") == "tool_use":
            learnt.call(number, block.get("name"), orjson.dumps(block.get("input")).decode())


def _messages_event(event: Object, learnt: Learnt) -> bool:
    kind = event.get("type")
    if kind == "content_block_delta":
        delta = _object_at(event, "delta")
        learnt.keep(delta.get("text"))
        if learnt.keeps_calls and "partial_json" in delta:
            learnt.call(event.get("index"), None, delta.get("partial_json"))
    elif kind == "content_block_start":
        block = _object_at(event, "content_block")
        if learnt.keeps_calls and block.get("type") == "tool_use":
            learnt.call(event.get("index"), block.get("name"), None)
    elif kind == "message_start":
        _message_usage(_object_at(event, "message").get("usage"), learnt)
    elif kind == "message_delta":
        _message_usage(event.get("usage"), learnt)
        reason = _object_at(event, "delta").get("stop_reason")
        learnt.ended(_MESSAGES_REASONS.get(str(reason), reason))
    elif kind == "message_stop":
        learnt.done = True
    return False


def _message_usage(usage: object, learnt: Learnt) -> None:
    """Take Anthropic's counts: what came from the cache is not among its `input_tokens`."""
    if not isinstance(usage, dict):
        return
    given = usage.get("input_tokens")
    if type(given) is int:
        cached = (usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens"))
        given += sum(tokens for tokens in cached if type(tokens) is int)
    learnt.count(given, usage.get("output_tokens"))


def _messages_identity(event: Object) -> Object | None:
    """Return the message itself, or the one inside `message_start`."""
    if event.get("type") == "message":
        return event
    message = event.get("message")
    return message if isinstance(message, dict) else None


def _messages_fault(event: Object) -> object:
    return event.get("error", "error") if event.get("type") == "error" else None


MESSAGES = Shape(_messages_whole, _messages_event, _messages_identity, _messages_fault)


# --- /v1/messages/count_tokens, /tokenize, /detokenize ---------------------------------------------


def _nothing(answer: Object, learnt: Learnt) -> None:
    """Learn nothing: these answers generate no token and name no model."""


def _no_event(event: Object, learnt: Learnt) -> bool:  # noqa: ARG001 - they never stream
    return False


def _nobody(answer: Object) -> None:  # noqa: ARG001
    return None


PLAIN = Shape(_nothing, _no_event, _nobody, _choices_fault, names_model=False)


def _object_at(value: Object, name: str) -> Object:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _objects(value: object) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
