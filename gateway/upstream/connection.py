"""One HTTP/1.1 connection to an engine: an asyncio protocol around httptools' response parser.

A connection carries one exchange at a time. The `Response` owns what was received; the connection owns
the socket. Reading stops while a slow consumer has more than `HIGH_WATER_BYTES` waiting.
"""

import asyncio
import re
from collections.abc import Callable
from typing import cast

import httptools

from gateway.eager import Gate
from gateway.upstream.faults import BadAnswer, ConnectionLost, TimedOut, UpstreamFault

HIGH_WATER_BYTES = 256 * 1024
LEFT_S = 1.0
"""How long a connection waits for the end of a body that nobody reads any more."""
_NO_BODY = frozenset({204, 304})
_FRAMED = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)


class Response:
    """The answer to one request, read as it arrives.

    Whoever holds it calls `close` when done; an answer that is not complete by then costs the connection,
    and so aborts the engine's work.
    """

    __slots__ = (
        "_connection",
        "_fault",
        "_gate",
        "_loop",
        "_parts",
        "_refusal",
        "_size",
        "_take",
        "_wants_more",
        "complete",
        "status",
    )

    def __init__(self, connection: "Connection", loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.complete = False
        self._connection: Connection | None = connection
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._fault: UpstreamFault | None = None
        self._gate: Gate | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._wants_more = True
        self._refusal: Exception | None = None

    async def head(self) -> None:
        """Wait for status and headers.

        Raises:
            UpstreamFault: they did not come.
        """
        while not self.status:
            if self._fault is not None:
                raise self._fault
            await self._wait()

    async def read(self) -> bytes:
        """Return what has arrived of the body, waiting for at least a byte; empty at the end.

        Raises:
            UpstreamFault: the body ended early. All that arrived before has been returned by then.
        """
        while not self._parts:
            if self._fault is not None:
                raise self._fault
            if self.complete:
                return b""
            await self._wait()
        return self._taken()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Give the rest of the body to `take`, piece by piece, each in the very step that brings it.

        To wait for each piece with `read` costs as much as to pass it on. `take` says whether it wants more
        now. False is returned once it does not (call again to go on), True at the end of the body.

        Raises:
            UpstreamFault: the body ended early. All that arrived before has been given by then.
            Exception: what `take` raised.
        """
        while True:
            while self._parts:
                if not take(self._taken()):
                    return False
            if self._fault is not None:
                raise self._fault
            if self.complete:
                return True
            self._take, self._wants_more = take, True
            try:
                await self._wait()
            finally:
                self._take = None
            if self._refusal is not None:
                raise self._refusal
            if not self._wants_more:
                return False

    def at_hand(self) -> bytes | None:
        """Return the whole body if all of it has come; None when it has to be waited for."""
        return self._taken() if self.complete and self._parts else None

    async def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            UpstreamFault: it ended early, or is longer than the limit (BadAnswer).
        """
        parts = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit_bytes:
                raise BadAnswer(f"the answer is over {limit_bytes} bytes")
            parts.append(data)
        return b"".join(parts)

    def leave(self) -> None:
        """Let go of an answer that has said all: only the end of its body is to come.

        The connection is kept when that comes soon. What still comes before it is thrown away.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish_alone()

    def close(self) -> None:
        """Let go of the answer; the connection is closed unless the answer is complete."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(ConnectionLost("the answer was given up", answered=True))

    # --- what the connection calls ------------------------------------------------------------------

    def put(self, data: bytes) -> int:
        """Take a piece of the body; return how many bytes now wait for the consumer."""
        self._parts.append(data)
        self._size += len(data)
        return self._size

    def finish(self, fault: UpstreamFault | None = None) -> None:
        """Mark the answer as complete, or as broken by `fault`."""
        self._connection = None
        if fault is None:
            self.complete = True
        else:
            self._fault = fault

    def wake(self) -> None:
        """Let the consumer go on: there is news. It may run before this returns."""
        if self._take is not None and self._poured(self._take):
            return
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.open()

    @property
    def starved(self) -> bool:
        """Whether the consumer has taken everything: from here the engine is the one that is slow."""
        return not self._parts

    def _poured(self, take: Callable[[bytes], bool]) -> bool:
        """Give what is there to the consumer; False when that has to be woken for something else."""
        if self._parts:
            try:
                self._wants_more = take(self._taken())
            except Exception as refusal:  # noqa: BLE001 - raised where the consumer waits
                self._refusal = refusal
                return False
        return self._wants_more and not self.complete and self._fault is None

    def _taken(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._size = 0
        connection = self._connection
        if connection is not None and connection.paused:
            connection.resume()
        return data

    async def _wait(self) -> None:
        gate = self._gate = Gate(self._loop)
        await gate


class Connection(asyncio.Protocol):
    """The socket, the parser, and the deadlines of the exchange that is under way."""

    def __init__(self, *, max_head_bytes: int, on_done: Callable[["Connection", bool], None]) -> None:
        """Call `on_done` at the end of each exchange, with whether the connection can serve another one."""
        self.idle_since = 0.0
        self._max_head_bytes = max_head_bytes
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self.paused = False
        self._reset(0.0)

    def _reset(self, now: float) -> None:
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._head_done = False
        self._body_begun = False
        self._left_at: float | None = None
        self._started_at = self._last_read = now

    @property
    def closed(self) -> bool:
        """Whether the socket is gone or going."""
        return self._transport is None or self._transport.is_closing()

    @property
    def idle_s(self) -> float:
        """For how many seconds it has had nothing to do."""
        return self._loop.time() - self.idle_since

    def start(self, request: bytes) -> Response:
        """Write a request and return its answer, of which nothing has come yet."""
        assert self._transport is not None  # noqa: S101 - made by connection_made before anybody has us
        assert self._response is None  # noqa: S101 - one exchange at a time
        self._reset(self._loop.time())
        response = self._response = Response(self, self._loop)
        self._transport.write(request)
        return response

    def abort(self, fault: UpstreamFault) -> None:
        """Close the socket at once; an answer under way ends with `fault`."""
        response, self._response = self._response, None
        if self._transport is not None:
            self._transport.abort()
        if response is not None:
            self._on_done(self, False)
            response.finish(fault)
            response.wake()

    def finish_alone(self) -> None:
        """Read to the end of the answer, whose reader has left, for a while."""
        self._left_at = self._loop.time()
        self.resume()

    def resume(self) -> None:
        """Read again; the consumer has caught up."""
        if self.paused and self._transport is not None:
            self.paused = False
            self._last_read = self._loop.time()
            self._transport.resume_reading()

    def check(self, now: float, *, first_byte_s: float, idle_s: float, total_s: float) -> None:
        """Abort the exchange when it is past a deadline; a slow consumer is no fault of the engine."""
        response = self._response
        if response is None:
            return
        if self._left_at is not None:
            if now - self._left_at > LEFT_S:
                self.abort(TimedOut("the end of a body"))
        elif now - self._started_at > total_s:
            self.abort(TimedOut("total"))
        elif not self._body_begun:
            if now - self._started_at > first_byte_s:
                self.abort(TimedOut("first byte"))
        elif response.starved and now - self._last_read > idle_s:
            self.abort(TimedOut("idle"))

    # --- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, whose callbacks below take note, and then let the consumer go on."""
        response = self._response
        if response is None:
            self.abort(BadAnswer("bytes that belong to no answer"))
            return
        self._last_read = self._loop.time()
        if not self._head_done:
            self._head_bytes += len(data)
            self._head.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(BadAnswer(f"not HTTP: {error}"))
        else:
            if not self._head_done and self._head_bytes > self._max_head_bytes:
                self.abort(BadAnswer(f"the head is over {self._max_head_bytes} bytes"))
        if response.status:
            response.wake()

    def eof_received(self) -> None:
        """Let the transport close; connection_lost follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer under way: well when its end is the end of the connection, badly otherwise."""
        self._transport = None
        response, self._response = self._response, None
        if response is None:
            return
        self._on_done(self, False)
        if exc is None and self._head_done and not self._framed(response.status):
            response.finish()
        else:
            response.finish(
                ConnectionLost(f"the engine closed the connection: {exc}", answered=self._head_bytes > 0)
            )
        response.wake()

    def _framed(self, status: int) -> bool:
        """Whether the head says where the body ends. Looked at only when the connection has ended first."""
        head = b"".join(self._head).partition(b"\r\n\r\n")[0]
        return status in _NO_BODY or _FRAMED.search(head) is not None

    # --- httptools ------------------------------------------------------------------------------------

    # There is no `on_header` on purpose: nobody reads an engine's headers, and each would cost a call.

    def on_headers_complete(self) -> None:
        """Publish the head, unless it is an interim answer (1xx)."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._head_done = True
        if self._response is not None:
            self._response.status = status

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on; stop reading when too much waits."""
        self._body_begun = True
        response = self._response
        if response is None or self._left_at is not None:
            return
        if response.put(data) <= HIGH_WATER_BYTES or self.paused:
            return
        if self._transport is not None and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """End the answer; the connection serves the next one when both sides agree."""
        if not self._head_done:  # an interim answer; the real one follows
            return
        response, self._response = self._response, None
        keep = self._parser.should_keep_alive() and not self.closed
        self.resume()
        self.idle_since = self._loop.time()
        if not keep and self._transport is not None:
            self._transport.close()
        self._on_done(self, keep)
        if response is not None:
            response.finish()
