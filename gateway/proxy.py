"""Lease and relay: from a resolved request to the last byte of its answer.

A request goes to another replica only when the first one did not do the work: no connection, a refusal
(429, 503), or an adapter that is not registered there (404). Once it was written and the connection broke,
it is never sent again: a request that kills an engine must not meet the next one.
"""

import logging
import time
from dataclasses import dataclass
from typing import Protocol

from gateway.core.refs import BASE
from gateway.core.requests import RequestRow, Target
from gateway.errors import (
    InvalidRequest,
    Overloaded,
    TurnoutError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import Lease, Pool
from gateway.telemetry import PairMetrics, Telemetry
from gateway.upstream.answers import explain_refusal
from gateway.upstream.client import Client
from gateway.upstream.connection import Response
from gateway.upstream.faults import BadAnswer, ConnectFailed, ConnectionLost, TimedOut, UpstreamFault
from gateway.upstream.reading import Reading, StreamReading, WrongModel, read_whole

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
MAX_REFUSALS = 2
"""How many replicas may refuse a request (429, 503, 404) before the client hears of it."""

RETRY_AFTER_S = 1.0
_log = logging.getLogger("turnout.proxy")


class Downstream(Protocol):
    """The client's side of one exchange."""

    async def whole(self, body: bytes) -> None:
        """Send a complete JSON answer."""

    async def begin_stream(self) -> None:
        """Send the head of an event stream."""

    async def piece(self, data: bytes) -> None:
        """Send bytes of the stream; returns when the client can take more."""

    async def end_stream(self) -> None:
        """End the stream."""


@dataclass(slots=True)
class Call:
    """One resolved request: what goes to the engine, and the row in which its story is written.

    `received` is the monotonic time at which its headers had come.
    """

    path: str
    payload: bytes
    target: Target
    stream: bool
    hide_usage: bool
    text_limit: int
    row: RequestRow
    received: float


class Proxy:
    """Sends calls to engines and their answers to clients."""

    def __init__(self, client: Client, pool: Pool, in_flight: InFlight, telemetry: Telemetry) -> None:
        self._client = client
        self._pool = pool
        self._in_flight = in_flight
        self._telemetry = telemetry

    async def serve(self, call: Call, downstream: Downstream) -> None:
        """Answer `call`. The row says at the end what happened; its status is 200 unless this raises.

        Raises:
            TurnoutError: there is no answer. When the stream had begun, its end is the caller's to say.
        """
        label = str(call.target.adapter) if call.target.adapter else BASE
        self._in_flight.enter(label)
        try:
            await self._try_replicas(call, label, downstream)
        finally:
            self._in_flight.leave(label)

    async def _try_replicas(self, call: Call, label: str, downstream: Downstream) -> None:
        tried: frozenset[str] = frozenset()
        refusals = 0
        while True:
            lease = await self._lease(call, label, tried)
            try:
                outcome = await self._attempt(call, lease, downstream)
            finally:
                lease.release()
            if outcome is None:
                return
            tried |= {lease.replica.id}
            refusals += outcome.cause != "connect"
            if refusals >= MAX_REFUSALS or not self._pool.serves(label, tried=tried):
                raise outcome.error
            self._telemetry.retries.labels(outcome.cause).inc()

    async def _lease(self, call: Call, label: str, tried: frozenset[str]) -> Lease:
        lease = await self._pool.lease(label, tried=tried)
        row = call.row
        row.queue_ms = (row.queue_ms or 0.0) + lease.waited_s * 1000
        row.attempts += 1
        row.replica = lease.replica.id
        self._telemetry.queue_wait.observe(lease.waited_s)
        return lease

    async def _attempt(self, call: Call, lease: Lease, downstream: Downstream) -> "_NotDone | None":
        """Send the call to one replica; None when it was answered, otherwise why another may be tried."""
        try:
            response = await self._client.post(
                lease.replica.origin, call.path, call.payload, {"x-request-id": call.row.id}
            )
        except ConnectFailed as fault:
            _log.warning("replica %s can't be reached: %s", lease.replica.id, fault)
            error = Unavailable(
                "no engine could be reached", code="replica_unreachable", retry_after_s=RETRY_AFTER_S
            )
            return _NotDone("connect", error)
        except UpstreamFault as fault:
            raise _told(fault, lease) from fault
        try:
            if response.status != 200:
                return await self._refused(call, lease, response)
            if call.stream:
                await _Relay(call, lease, self._telemetry).stream(response, downstream)
            else:
                await _Relay(call, lease, self._telemetry).whole(response, downstream)
        except UpstreamFault as fault:
            raise _told(fault, lease) from fault
        finally:
            response.close()
        return None

    async def _refused(self, call: Call, lease: Lease, response: Response) -> "_NotDone":
        """Read a refusal; return it when another replica may do better, raise it otherwise."""
        body = await response.read_all(MAX_REFUSAL_BYTES)
        status = response.status
        _log.info("replica %s refused %s with %d", lease.replica.id, call.row.id, status)
        if status == 404 and call.target.adapter is not None:
            error: TurnoutError = Unavailable(
                f"{call.target.engine_model!r} is being registered; try again in a moment",
                code="adapter_not_registered",
                retry_after_s=RETRY_AFTER_S,
            )
            return _NotDone("not_registered", error)
        if status == 429:
            error = Overloaded("the engine is overloaded", code="engine_busy", retry_after_s=RETRY_AFTER_S)
            return _NotDone("busy", error)
        if status == 503:
            error = Unavailable(
                "the engine is not ready", code="engine_unavailable", retry_after_s=RETRY_AFTER_S
            )
            return _NotDone("unavailable", error)
        if status in (400, 413, 422):  # the engine's own check of the request: the client can mend it
            message, param = explain_refusal(body)
            raise InvalidRequest(message, param=param)
        _log.error("replica %s answered %s with %d: %r", lease.replica.id, call.row.id, status, body[:500])
        raise UpstreamFailed("the engine failed to answer")


@dataclass(frozen=True, slots=True)
class _NotDone:
    """The replica did no work on the request: why, and what the client hears if no other does either."""

    cause: str
    error: TurnoutError


class _Relay:
    """One answer on its way through."""

    def __init__(self, call: Call, lease: Lease, telemetry: Telemetry) -> None:
        self._call = call
        self._lease = lease
        self._telemetry = telemetry
        self._metrics: PairMetrics = telemetry.pair(call.row.route, call.row.adapter)
        self._reading = Reading(call.target.engine_model, text_limit=call.text_limit)

    async def whole(self, response: Response, downstream: Downstream) -> None:
        """Pass on an answer that is not streamed, once it is known who gave it."""
        body = await response.read_all(MAX_ANSWER_BYTES)
        try:
            read_whole(body, self._reading)
        except WrongModel as wrong:
            raise self._wrong(wrong) from wrong
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        finally:
            self._note()
        await downstream.whole(body)

    async def stream(self, response: Response, downstream: Downstream) -> None:
        """Pass on a stream as it comes; its head waits for the first event, which says who answers."""
        events = StreamReading(self._reading, hide_usage=self._call.hide_usage)
        try:
            await self._pass_on(response, events, downstream)
        except WrongModel as wrong:
            raise self._wrong(wrong) from wrong
        except ValueError as error:
            raise BadAnswer(str(error)) from error
        except UpstreamFault:
            if not self._reading.done:
                raise
        finally:
            self._note()
        if not (events.events and self._reading.done):
            raise ConnectionLost("the stream ended early", answered=True)
        await downstream.end_stream()

    async def _pass_on(self, response: Response, events: StreamReading, downstream: Downstream) -> None:
        held = b""  # comments in front of the first event
        last = 0.0
        while data := await response.read():
            passed = events.feed(data)
            now = time.perf_counter()
            if last:
                self._metrics.inter_token.observe(now - last)
            elif events.events:
                await self._begin(now, downstream)
                passed = held + passed
            else:
                held += passed
                continue
            last = now
            if passed:
                await downstream.piece(passed)
            if events.engine_error is not None:
                break
        if events.engine_error is not None:
            raise BadAnswer(f"the engine broke off: {events.engine_error}")

    async def _begin(self, now: float, downstream: Downstream) -> None:
        waited_s = now - self._call.received
        self._call.row.ttft_ms = waited_s * 1000
        self._metrics.ttft.observe(waited_s)
        await downstream.begin_stream()

    def _note(self) -> None:
        row, reading = self._call.row, self._reading
        row.answer_id = reading.answer_id
        row.finish_reason = reading.finish_reason
        row.prompt_tokens = reading.prompt_tokens
        row.completion_tokens = reading.completion_tokens
        if self._call.text_limit:
            row.answer = reading.text

    def _wrong(self, wrong: WrongModel) -> TurnoutError:
        self._telemetry.wrong_model.labels(self._call.row.adapter).inc()
        _log.error("replica %s, request %s: %s", self._lease.replica.id, self._call.row.id, wrong)
        return UpstreamFailed("another version than the one that was meant answered", code="wrong_model")


def _told(fault: UpstreamFault, lease: Lease) -> TurnoutError:
    """Return what a client hears of a fault. The fault itself goes to the log."""
    _log.warning("replica %s: %s", lease.replica.id, fault)
    if isinstance(fault, TimedOut):
        return UpstreamTimeout("the engine did not answer in time")
    return UpstreamFailed("the engine broke off before the answer was complete")
