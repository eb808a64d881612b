"""The client's side of one request to a hot path: its headers and body on the way in, bytes on the way out.

It stands where uvicorn has its RequestResponseCycle, and has the attributes that uvicorn's protocol looks at
there. Between it and the socket there is nothing else: no task, no queue, no messages.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.api.endpoints import Endpoint
from gateway.api.request_body import ClientGone, stalled, too_large
from gateway.eager import Drive, Gate

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ONCE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"host",
        b"x-api-key",
        b"x-turnout-internal",
        b"x-turnout-subject",
    }
)
"""Headers that decide something: whoever stands in front may have looked at another one of two."""


class Connection(Protocol):
    """What a cycle needs of the connection that it is on."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    tasks: set[Any]
    write_timeout_s: float

    def default_lines(self) -> bytes:
        """Return the header lines that every answer has, such as the date."""

    def on_response_complete(self) -> None:
        """Hear that the answer is complete."""


class HotCycle:
    """One request. `serve` makes the coroutine that answers it; `begin` starts it.

    `headers` is complete from the beginning; the body may still be coming. `body_limit_bytes` is how much
    of it is kept: a client that sends more is not read any further. `repeated` is the name of a header that
    must stand there once, and does not.
    """

    __slots__ = (
        "_connection",
        "_drive",
        "_expects_continue",
        "_gate",
        "_late",
        "_parts",
        "_serve",
        "_size",
        "_streaming",
        "began",
        "body_limit_bytes",
        "body_read",
        "disconnected",
        "endpoint",
        "headers",
        "http_1_0",
        "keep_alive",
        "more_body",
        "repeated",
        "response_complete",
        "started",
    )

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint,
        headers: list[tuple[bytes, bytes]],
        *,
        serve: Callable[["HotCycle"], Coroutine[Any, Any, None]],
        body_limit_bytes: int,
        keep_alive: bool,
        http_1_0: bool,
    ) -> None:
        self.began = time.perf_counter()
        self.endpoint = endpoint
        self.headers: dict[bytes, bytes] = dict(headers)
        self.repeated = None if len(self.headers) == len(headers) else repeated_name(headers)
        self.body_limit_bytes = body_limit_bytes
        self.keep_alive = keep_alive
        self.http_1_0 = http_1_0
        self.body_read = False
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.started = False
        self._serve = serve
        self._connection = connection
        self._drive: Drive | None = None
        self._gate: Gate | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._late = False
        self._streaming = False
        self._expects_continue = self.headers.get(b"expect", b"").lower() == b"100-continue"

    def begin(self) -> None:
        """Run the request until it first has to wait."""
        self.started = True
        self._connection.tasks.add(self)
        self._drive = Drive(self._serve(self), self._over)
        self._drive.start()

    def cancel(self, msg: Any = None) -> None:  # noqa: ARG002 - as a task's: the server calls it at its end
        """End the request, as the end of the server does."""
        if self._drive is not None:
            self._connection.loop.call_soon(self._drive.cancel)

    def gone(self) -> None:
        """End the request: the client has left."""
        self.disconnected = True
        if self._drive is not None:
            self._drive.cancel()

    def _over(self) -> None:
        self._drive = None
        self._connection.tasks.discard(self)
        if not self.response_complete and not self.disconnected:
            self._connection.transport.close()  # broken off: nothing else tells the client

    # --- the body ------------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Keep a piece of the body. Beyond the limit nothing is kept, and reading stops."""
        self._size += len(data)
        if self._size > self.body_limit_bytes:
            self._parts.clear()
            self._connection.flow.pause_reading()
        else:
            self._parts.append(data)

    def news(self) -> None:
        """Let the coroutine go on that waits for the body: more of it is there."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.open()

    def body_at_hand(self) -> bytes | None:
        """Return the whole body if all of it has come, and it is none too large."""
        if self.more_body or self._size > self.body_limit_bytes:
            return None
        self.body_read = True
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def body(self, timeout_s: float) -> bytes:
        """Return the whole body.

        Raises:
            TooLarge: it is over the limit; the rest is not read.
            Stalled: it did not come in time.
            ClientGone: the client left.
        """
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.body_limit_bytes:
            raise too_large(self.body_limit_bytes)
        if self.more_body and self._size <= self.body_limit_bytes:
            await self._rest(timeout_s)
        body = self.body_at_hand()
        if body is None:
            raise too_large(self.body_limit_bytes)
        return body

    async def _rest(self, timeout_s: float) -> None:
        loop = self._connection.loop
        if self._expects_continue and not self._size:
            self._connection.transport.write(_CONTINUE)
        timer = loop.call_later(timeout_s, self._give_up)
        try:
            while self.more_body and self._size <= self.body_limit_bytes:
                if self._late:
                    raise stalled(timeout_s)
                if self.disconnected:
                    raise ClientGone
                gate = self._gate = Gate(loop)
                await gate
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        """Note that the time for the body is over: by the clock a timer may come a little early."""
        self._late = True
        self.news()

    # --- the answer ----------------------------------------------------------------------------------------

    def whole(self, status_line: bytes, lines: bytes, body: bytes) -> None:
        """Send a complete answer in one piece. `lines` are header lines, each with its end."""
        if self.disconnected:
            return
        connection = self._connection
        close = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
        length = b"content-length: %d" % len(body)
        connection.transport.write(
            b"".join((status_line, connection.default_lines(), lines, length, close, body))
        )
        self._complete()

    def begin_stream(self, status_line: bytes, lines: bytes, first: bytes) -> None:
        """Send the head of an answer whose length is not known, and its first piece."""
        self._streaming = True
        if self.disconnected:
            return
        if self.http_1_0:  # it knows no chunks: the end of the connection ends the answer
            self.keep_alive = False
        framing = b"" if self.http_1_0 else b"transfer-encoding: chunked\r\n"
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self._connection.transport.write(
            b"%b%b%b%b%b\r\n%b"
            % (
                status_line,
                self._connection.default_lines(),
                lines,
                framing,
                close,
                self._framed(first) if first else b"",
            )
        )

    def piece(self, data: bytes) -> bool:
        """Send a piece; return whether the client can take more now."""
        if self.disconnected:
            return True
        connection = self._connection
        connection.transport.write(data if self.http_1_0 else b"%x\r\n%b\r\n" % (len(data), data))
        return not connection.flow.write_paused

    async def room(self) -> None:
        """Wait until the client can take more. One that takes nothing for too long is cut off."""
        connection = self._connection
        if connection.flow.write_paused and not self.disconnected:
            patience = connection.loop.call_later(connection.write_timeout_s, connection.transport.abort)
            try:
                await connection.flow.drain()
            finally:
                patience.cancel()

    def end_stream(self, last: bytes = b"") -> None:
        """End the stream, after a last piece perhaps."""
        if self.disconnected:
            return
        end = b"" if self.http_1_0 else b"0\r\n\r\n"
        self._connection.transport.write(self._framed(last) + end if last else end)
        self._complete()

    def _framed(self, data: bytes) -> bytes:
        return data if self.http_1_0 else b"%x\r\n%b\r\n" % (len(data), data)

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.transport.close()
        self._connection.on_response_complete()

    @property
    def streaming(self) -> bool:
        """Whether the head of a stream was sent."""
        return self._streaming

    # --- what uvicorn's protocol does with a cycle --------------------------------------------------------

    @property
    def message_event(self) -> "HotCycle":
        """Return itself: uvicorn sets the event of a cycle whose connection is lost."""
        return self

    def set(self) -> None:
        """Do nothing: the protocol says by `gone` that the client has left."""


def repeated_name(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a header that must stand there once and stands there again."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            return name.decode("latin-1")
        seen.add(name)
    return None
