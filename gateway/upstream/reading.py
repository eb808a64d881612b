"""An engine's answer on its way through: checked that the right version gives it, and read. Pure."""

from typing import Any

import orjson

from gateway.upstream.shapes import CHOICES, Learnt, Shape
from gateway.upstream.sse import Splitter, data_of

DONE = b"[DONE]"


class WrongModel(Exception):
    """The answer names another version than the one that was asked: a wrong answer, not to be passed on."""

    def __init__(self, meant: str, answered: object) -> None:
        super().__init__(f"asked {meant!r}, answered by {answered!r}")
        self.meant = meant
        self.answered = answered


class Reading(Learnt):
    """What was learnt from the answer of the version `meant`, in its endpoint's shape."""

    __slots__ = ("meant", "shape")

    def __init__(
        self, meant: str, *, text_limit: int = 0, shape: Shape = CHOICES, keeps_calls: bool = False
    ) -> None:
        super().__init__(text_limit, keeps_calls)
        self.meant = meant
        self.shape = shape

    def identify(self, answer: dict[str, Any]) -> None:
        """Check who answered, and take the answer's id.

        Raises:
            WrongModel: it is not the version that was meant.
        """
        if not self.shape.names_model:
            return
        who = self.shape.identity(answer) or {}
        if who.get("model") != self.meant:
            raise WrongModel(self.meant, who.get("model"))
        answer_id = who.get("id")
        self.answer_id = answer_id if isinstance(answer_id, str) else None


def read_whole(body: bytes, reading: Reading) -> None:
    """Read an answer that is not streamed.

    Raises:
        WrongModel: another version answered.
        ValueError: it is not an answer at all.
    """
    answer = _object(body)
    reading.identify(answer)
    reading.shape.whole(answer, reading)
    reading.done = True


class StreamReading:
    """Reads a stream as it passes. Nothing passes before the first event has shown who answers."""

    __slots__ = (
        "_hide_usage",
        "_identified",
        "_idle",
        "_learn",
        "_skips",
        "_splitter",
        "engine_error",
        "events",
        "reading",
    )

    def __init__(self, reading: Reading, *, hide_usage: bool) -> None:
        """`hide_usage`: the usage event was asked for by the gateway alone and is taken out."""
        self.reading = reading
        self.events = 0
        self.engine_error: str | None = None
        self._hide_usage = hide_usage
        self._identified = False
        self._idle = reading.shape.idle
        self._skips = not reading.text_limit
        self._learn = reading.shape.event
        self._splitter = Splitter()

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine and return those to pass on, events untouched.

        When the engine breaks off with an error event, `engine_error` says why and nothing more passes. Nor
        does anything behind the event that ends the answer.

        Raises:
            WrongModel: the first event names another version.
            ValueError: an event is too large, or the first one is no JSON object.
        """
        said = self._splitter.lone(data)
        if said is not None:
            return data if self._passes(said) else b""
        events = self._splitter.feed(data)
        return b"".join([event for event in events if self._passes(data_of(event))])

    def _passes(self, data: bytes | None) -> bool:
        over = self.engine_error is not None or self.reading.done
        if over or data is None:
            return not over
        if data == DONE:
            self.reading.done = True
            return True
        if self._skips and self._identified and self._idle(data):
            self.events += 1
            return True
        try:
            said = _object(data)
        except ValueError:
            if not self._identified:
                raise
            return True
        fault = self.reading.shape.fault(said)
        if fault is not None:
            self.engine_error = str(fault)[:500]
            return False
        if not self._identified:
            self.reading.identify(said)
            self._identified = True
        self.events += 1
        return not (self._learn(said, self.reading) and self._hide_usage)


def _object(data: bytes) -> dict[str, Any]:
    value = orjson.loads(data)
    if isinstance(value, dict):
        return value
    raise ValueError("the engine's JSON is not an object")
