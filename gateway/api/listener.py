"""The protocol of the gateway's port: uvicorn's own, with a short way for the hot paths.

ASGI costs as much again as all that the gateway does with a request: a task, an event, and a dictionary for
each message. A POST to an endpoint of `gateway.api.endpoints` therefore never meets it. Its headers and body
are kept as the parser brings them, and its coroutine runs in the parser's step (`gateway.eager`). Every other
request goes the way of uvicorn, on the same connection. Keep-alive, draining and back-pressure stay
uvicorn's.

A head is bounded in bytes, in headers and, for a connection's first request, in time; who takes nothing of an
answer is cut off.
"""

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.api.cycle import HotCycle
from gateway.api.endpoints import Endpoint
from gateway.api.ports import Ports
from gateway.errors import Internal, InvalidRequest

Serve = Callable[[HotCycle], Coroutine[Any, Any, None]]
_VERSIONS = ("1.1", "1.0")
_WRITTEN_OTHERWISE = re.compile(rb"[?%#]|^[^/]")
"""Targets with a query, escapes or a fragment, and those that name the server too."""


class HeadRefused(Exception):
    """A request whose head is over a limit, or of a version that is not ours."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take.

    `head_timeout_s` is the time to the end of the first request's headers, `write_timeout_s` the time for
    which a client may take nothing of an answer.
    """

    max_head_bytes: int = 32 * 1024
    max_headers: int = 100
    head_timeout_s: float = 10.0
    write_timeout_s: float = 60.0


class Listener:
    """What uvicorn takes as its `http` protocol: called for each connection, returns its protocol.

    `serve` answers a request to one of `endpoints`, by path; no body is read beyond `max_body_bytes`.
    On the administrators' port, if there is one, there are none of them.
    """

    def __init__(
        self,
        serve: Serve,
        endpoints: Mapping[str, Endpoint],
        *,
        max_body_bytes: int,
        limits: ConnectionLimits,
        ports: Ports,
    ) -> None:
        self.serve = serve
        self.limits = limits
        self.ports = ports
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._max_body_bytes = max_body_bytes
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "HotProtocol":
        """Return the protocol of a new connection."""
        return HotProtocol(self, config, server_state, app_state, _loop)

    def endpoint(self, url: bytes) -> Endpoint | None:
        """Return the endpoint that a request's target names, if it is a hot one.

        A target is read as uvicorn reads it, so that both ways agree on what it names.

        Raises:
            HttpParserInvalidURLError: it is no target.
        """
        endpoint = self._endpoints.get(url)
        if endpoint is None and _WRITTEN_OTHERWISE.search(url):
            path = httptools.parse_url(url).path or b""
            endpoint = self._endpoints.get(unquote(path.decode("latin-1")).encode("utf-8", "surrogateescape"))
        return endpoint

    def limit_of(self, endpoint: Endpoint) -> int:
        """Return how many bytes of a body are read."""
        return min(self._max_body_bytes, endpoint.max_body_bytes or sys.maxsize)

    def lines_of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return uvicorn's default headers as lines; it makes a new list every second."""
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._default_lines


class HotProtocol(HttpToolsProtocol):
    """One connection. `cycle` is the request that came last; earlier ones may still be answered."""

    def __init__(
        self,
        listener: Listener,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._listener = listener
        self._hot: HotCycle | None = None  # the request whose parts are coming
        self._next: HotCycle | None = None  # the one to begin with when the parser has done its step
        self._under_way: HotCycle | None = None  # the one that is being answered
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        limits = listener.limits
        self._max_headers = limits.max_headers
        self._max_head_bytes = limits.max_head_bytes
        self._head_timeout_s = limits.head_timeout_s
        self.write_timeout_s = limits.write_timeout_s
        self._hot_here = True
        self._in_head = True  # the next bytes belong to a request's head
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._refusal = 400

    def default_lines(self) -> bytes:
        """Return the header lines that every answer has."""
        return self._listener.lines_of(self.server_state.default_headers)

    # --- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Wait for a request, for a while."""
        super().connection_made(transport)
        self._hot_here = not self._listener.ports.is_admin(self.server)
        self._idle_since = self.loop.time()
        self._idle_timer = self.loop.call_later(self._head_timeout_s, self._look_for_a_request)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, whose callbacks take note, and then let the request go on."""
        waiting = self._hot
        self._chunk_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._max_head_bytes and not self.transport.is_closing():
            self._refusal = 431
            self.send_400_response("The request's head is too large.")
        if waiting is not None and waiting.started:
            waiting.news()
        if self._next is not None:
            hot, self._next = self._next, None
            self._start(hot)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request under way: its client has left."""
        under_way, self._under_way = self._under_way, None
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if under_way is not None:
            under_way.gone()

    # --- the parser ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request. What ASGI wants to know of it is put together when ASGI gets it."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Decide which way the request goes."""
        parser = self.parser
        version = parser.get_http_version()
        self._in_head = False
        if (
            len(self.headers) > self._max_headers
            or self._head_bytes + self._chunk_bytes > self._max_head_bytes
            or version not in _VERSIONS
        ):
            self._look_at_head(version)
        hot = self._hot_here and parser.get_method() == b"POST"
        endpoint = self._listener.endpoint(self.url) if hot else None
        if endpoint is None or parser.should_upgrade():
            self._hot = None
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers = self.scope["headers"] = headers
            super().on_headers_complete()
            if parser.should_upgrade():  # the parser reads nothing behind it
                self.cycle.keep_alive = False
            return
        before = cast("HotCycle | RequestResponseCycle | None", self.cycle)
        request = self._hot = HotCycle(
            self,
            endpoint,
            self.headers,
            serve=self._listener.serve,
            body_limit_bytes=self._listener.limit_of(endpoint),
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            http_1_0=version == "1.0",
        )
        self.cycle = cast("RequestResponseCycle", request)
        if before is None or before.response_complete:
            self._next = request
        else:  # pipelined: answers keep their order
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._hot is not None:
            self._hot.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the request is whole."""
        self._in_head = True
        self._head_bytes = 0
        if self._hot is not None:
            self._hot.more_body = False
            self._hot = None
        else:
            super().on_message_complete()

    # --- what is no request --------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be parsed or is over a limit, and end the connection.

        Nothing is written into an answer that is under way.
        """
        if self._answering():
            self.transport.close()
            return
        lines = b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
        body = msg.encode("ascii")
        head = b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n" % (
            STATUS_LINE[self._refusal],
            self.default_lines(),
            lines,
            len(body),
        )
        self.transport.write(head + body)
        self.transport.close()

    def _answering(self) -> bool:
        cycle = cast("HotCycle | RequestResponseCycle | None", self.cycle)
        if cycle is None or (cycle.response_complete and not self.pipeline):
            return False
        if self.pipeline or not cycle.more_body:
            return True
        return cycle.streaming if isinstance(cycle, HotCycle) else cycle.response_started

    def _look_at_head(self, version: str) -> None:
        """Look closer at a head that may be over a limit.

        Raises:
            HeadRefused: it is over a limit, or of another version than ours.
        """
        if len(self.headers) > self._max_headers or self._head_size() > self._max_head_bytes:
            self._refusal = 431
            raise HeadRefused
        if version not in _VERSIONS:
            raise HeadRefused

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # --- one request after the other ----------------------------------------------------------------------

    def _start(self, hot: HotCycle) -> None:
        if not self.transport.is_closing():
            self._under_way = hot
            hot.begin()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request, also one that was pipelined: not in the step that ended the one before it."""
        request: object = cycle
        if isinstance(request, HotCycle):
            self.loop.call_soon(self._start, request)
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what was pipelined, or be idle: uvicorn's method but for its timer for each request."""
        self._under_way = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._cut_if_unread()
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_for_idleness)

    def _look_for_a_request(self) -> None:
        """Close a connection that has brought no request yet."""
        if cast("object | None", self.cycle) is None:
            self._idle_timer = None
            self.transport.close()
        else:
            self._look_for_idleness()

    def _cut_if_unread(self) -> None:
        """Do not wait for ever until a client takes the end of an answer on a connection that is closing."""
        if self.transport.get_write_buffer_size() > 0:
            self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def _look_for_idleness(self) -> None:
        """Close a connection on which nothing has been asked for long; look again later otherwise."""
        self._idle_timer = None
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        due = (self.loop.time() if busy else self._idle_since) + self.timeout_keep_alive
        if due <= self.loop.time():
            self.transport.close()
            self._cut_if_unread()
        else:
            self._idle_timer = self.loop.call_at(due, self._look_for_idleness)


async def not_served_here(request: Request) -> Response:
    """Answer a hot path that came to the app: with an upgrade, or under another server's protocol."""
    if "upgrade" in request.headers:
        raise InvalidRequest("no other protocol is spoken here; send it without Upgrade", param="upgrade")
    raise Internal("this server does not use the gateway's protocol; start it with 'turnout serve'")
