"""What is read in an engine's answers: the version that answered, usage, finish reason, text. Pure."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.upstream.sse import Splitter, data_of

DONE = b"[DONE]"


class WrongModel(Exception):
    """The answer names another version than the one that was asked: a wrong answer, not to be passed on."""

    def __init__(self, meant: str, answered: object) -> None:
        super().__init__(f"asked {meant!r}, answered by {answered!r}")
        self.meant = meant
        self.answered = answered


@dataclass(slots=True)
class Reading:
    """What was learnt from one answer. Token counts are None until the engine said them."""

    meant: str
    text_limit: int = 0
    answer_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    done: bool = False
    _text: list[str] = field(default_factory=list)
    _text_chars: int = 0

    @property
    def text(self) -> str:
        """The answer's text, as far as it was kept."""
        return "".join(self._text)[: self.text_limit]

    def keep(self, piece: object) -> None:
        """Keep a piece of the first choice's text, up to the limit."""
        if isinstance(piece, str) and self._text_chars < self.text_limit:
            self._text.append(piece)
            self._text_chars += len(piece)

    def usage(self, usage: object) -> None:
        """Take the token counts of a `usage` object."""
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)

    def identity(self, answer: dict[str, Any]) -> None:
        """Check who answered, and take the answer's id.

        Raises:
            WrongModel: it is not the version that was meant.
        """
        if answer.get("model") != self.meant:
            raise WrongModel(self.meant, answer.get("model"))
        answer_id = answer.get("id")
        self.answer_id = answer_id if isinstance(answer_id, str) else None


def read_whole(body: bytes, reading: Reading) -> None:
    """Read an answer that is not streamed.

    Raises:
        WrongModel: another version answered.
        ValueError: it is not an answer at all.
    """
    answer = _object(body)
    reading.identity(answer)
    reading.usage(answer.get("usage"))
    choice = _first_choice(answer)
    reading.finish_reason = _text_or(choice.get("finish_reason"), None)
    message = choice.get("message")
    reading.keep(message.get("content") if isinstance(message, dict) else choice.get("text"))
    reading.done = True


class StreamReading:
    """Reads a stream as it passes. Nothing passes before the first event has shown who answers."""

    __slots__ = ("_hide_usage", "_identified", "_splitter", "engine_error", "events", "reading")

    def __init__(self, reading: Reading, *, hide_usage: bool) -> None:
        """`hide_usage`: the usage event was asked for by the gateway alone and is taken out."""
        self.reading = reading
        self.events = 0
        self.engine_error: str | None = None
        self._hide_usage = hide_usage
        self._identified = False
        self._splitter = Splitter()

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine and return those to pass on, events untouched.

        When the engine breaks off with an error event, `engine_error` says why and nothing more passes.

        Raises:
            WrongModel: the first event names another version.
            ValueError: an event is too large, or the first one is no JSON object.
        """
        passed = [event for event in self._splitter.feed(data) if self._passes(event)]
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def _passes(self, event: bytes) -> bool:
        data = data_of(event)
        if self.engine_error is not None or data is None:
            return self.engine_error is None
        if data == DONE:
            self.reading.done = True
            return True
        try:
            chunk = _object(data)
        except ValueError:
            if not self._identified:
                raise
            return True
        if "error" in chunk and "choices" not in chunk:
            self.engine_error = str(chunk["error"])[:500]
            return False
        if not self._identified:
            self.reading.identity(chunk)
            self._identified = True
        return self._learn(chunk)

    def _learn(self, chunk: dict[str, Any]) -> bool:
        """Take what the chunk says; whether it is for the client."""
        self.events += 1
        usage = chunk.get("usage")
        if usage is not None:
            self.reading.usage(usage)
            if self._hide_usage and not chunk.get("choices"):
                return False
        choice = _first_choice(chunk)
        if reason := choice.get("finish_reason"):
            self.reading.finish_reason = _text_or(reason, None)
        if self.reading.text_limit:
            delta = choice.get("delta")
            self.reading.keep(delta.get("content") if isinstance(delta, dict) else choice.get("text"))
        return True


def _object(data: bytes) -> dict[str, Any]:
    value = orjson.loads(data)
    if isinstance(value, dict):
        return value
    raise ValueError("the engine's JSON is not an object")


def _first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and not choices[0].get("index"):
        return choices[0]
    return {}


def _text_or(value: object, default: str | None) -> str | None:
    return value[:32] if isinstance(value, str) else default


def _count(value: object, default: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
