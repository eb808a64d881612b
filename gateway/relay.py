"""One answer on its way from an engine to a client: who gave it is checked, what it says is noted."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core.requests import RequestRow, Target
from gateway.core.structured import CHARS_TO_CHECK, Expected
from gateway.errors import TurnoutError, UpstreamFailed
from gateway.notices import Notice
from gateway.replicas.replica import Replica
from gateway.telemetry import PairMetrics, Telemetry
from gateway.upstream.connection import Response
from gateway.upstream.faults import BadAnswer, ConnectionLost
from gateway.upstream.reading import Reading, StreamReading, WrongModel, read_whole
from gateway.upstream.shapes import CHOICES, Shape

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_log = logging.getLogger("turnout.relay")


class Downstream(Protocol):
    """The client's side of one exchange."""

    def whole(self, body: bytes) -> None:
        """Send a complete JSON answer."""

    def begin_stream(self, first: bytes) -> None:
        """Send the head of an event stream and its first bytes."""

    def piece(self, data: bytes) -> bool:
        """Send bytes of the stream; return whether the client can take more now."""

    async def room(self) -> None:
        """Wait until the client can take more."""

    def end_stream(self, last: bytes = b"") -> None:
        """End the stream, after a last piece perhaps."""


@dataclass(slots=True)
class Call:
    """One resolved request: what goes to the engine, and the row in which its story is written.

    `received` is the monotonic time at which its headers had come. `trace` are the headers of its trace that
    the engine gets, if any. `expected` is what the form of its answer is checked against, if anything.
    `events` is how many of a stream have come.
    """

    path: str
    payload: bytes
    target: Target
    stream: bool
    hide_usage: bool
    text_limit: int
    row: RequestRow
    received: float
    trace: dict[str, str] | None = None
    shape: Shape = CHOICES
    expected: Expected | None = None
    events: int = 0


class Relay:
    """Passes one answer on. `begun` says whether the client has got any of it.

    `on_answer` is called when the replica has shown that it answers: with the first event of a stream.
    """

    def __init__(
        self,
        call: Call,
        replica: Replica,
        telemetry: Telemetry,
        *,
        raise_event: Callable[[Notice], None],
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        self.begun = False
        self._call = call
        self._replica = replica
        self._telemetry = telemetry
        self._raise_event = raise_event
        self._on_answer = on_answer
        self._metrics: PairMetrics = telemetry.of(call.row)
        expected = call.expected
        self._reading = Reading(
            call.target.engine_model,
            text_limit=call.text_limit if expected is None else max(call.text_limit, CHARS_TO_CHECK),
            shape=call.shape,
            keeps_calls=expected is not None and expected.tools is not None,
        )

    async def whole(self, response: Response, downstream: Downstream) -> None:
        """Pass on an answer that is not streamed, once it is known who gave it."""
        body = response.at_hand() or await response.read_all(MAX_ANSWER_BYTES)
        try:
            read_whole(body, self._reading)
        except WrongModel as wrong:
            raise self._wrong(wrong) from wrong
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        finally:
            self._note()
        self.begun = True
        downstream.whole(body)

    async def stream(self, response: Response, downstream: Downstream) -> None:
        """Pass on a stream as it comes; its head waits for the first event, which says who answers.

        The client's stream ends with the event that ends the answer, and not when the engine's body does:
        most clients leave as soon as they have read that event, and have had all of their answer.
        """
        events = StreamReading(self._reading, hide_usage=self._call.hide_usage)
        try:
            await self._pass_on(response, events, downstream)
        except WrongModel as wrong:
            raise self._wrong(wrong) from wrong
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        finally:
            self._call.events = events.events
            self._note()
        if not (self.begun and self._reading.done):
            raise ConnectionLost("the stream ended early", answered=True)
        response.leave()

    async def _pass_on(self, response: Response, events: StreamReading, downstream: Downstream) -> None:
        """Pass on events until the answer has ended, or the engine's body has."""
        reading = self._reading
        held = b""  # comments in front of the first event
        while not self.begun and (data := await response.read()):
            held += events.feed(data)
            if events.events:
                self._begin()
                downstream.begin_stream(held)
                if reading.done:
                    downstream.end_stream()
                    return
            _check(events)
        last = time.perf_counter()
        feed, observe, piece = events.feed, self._metrics.inter_token.observe, downstream.piece

        def pass_on(data: bytes) -> bool:
            nonlocal last
            passed = feed(data)
            now = time.perf_counter()
            observe(now - last)
            last = now
            if reading.done:
                downstream.end_stream(passed)
                return False
            more = piece(passed) if passed else True
            if events.engine_error is not None:
                _check(events)
            return more

        while not await response.pour(pass_on):
            if reading.done:
                return
            await downstream.room()

    def _begin(self) -> None:
        waited_s = time.perf_counter() - self._call.received
        self._call.row.ttft_ms = waited_s * 1000
        self._metrics.ttft.observe(waited_s)
        self.begun = True
        if self._on_answer is not None:
            self._on_answer()

    def _note(self) -> None:
        row, reading = self._call.row, self._reading
        row.answer_id = reading.answer_id
        row.finish_reason = reading.finish_reason
        row.prompt_tokens = reading.prompt_tokens
        row.completion_tokens = reading.completion_tokens
        if self._call.text_limit:
            row.answer = reading.text[: self._call.text_limit]
        if self._call.expected is not None:
            self._call.expected.take(reading.text, reading.calls)

    def _wrong(self, wrong: WrongModel) -> TurnoutError:
        adapter, replica = self._call.row.adapter, self._replica.id
        self._telemetry.wrong_model.labels(self._telemetry.adapter_label(adapter)).inc()
        _log.error("replica %s, request %s: %s", replica, self._call.row.id, wrong)
        self._raise_event(Notice("adapter.wrong_model", adapter, f"{replica}: {wrong}"))
        return UpstreamFailed("another version than the one that was meant answered", code="wrong_model")


def _check(events: StreamReading) -> None:
    if events.engine_error is not None:
        raise BadAnswer(f"the engine broke off: {events.engine_error}")
