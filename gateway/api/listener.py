"""The protocol of the gateway's port: uvicorn's own, with a short way for the hot paths.

ASGI costs as much again as all that the gateway does with a request: a task, an event, and a dictionary for
each message. A POST to an endpoint of `gateway.api.endpoints` therefore never meets it. Its headers and body
are kept as the parser brings them, and its coroutine runs in the parser's step (`gateway.eager`). Every other
request goes the way of uvicorn, on the same connection. Keep-alive, draining and back-pressure stay
uvicorn's.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.api.cycle import HotCycle
from gateway.api.endpoints import Endpoint
from gateway.errors import Internal

Serve = Callable[[HotCycle], Coroutine[Any, Any, None]]


class Listener:
    """What uvicorn takes as its `http` protocol: called for each connection, returns its protocol.

    `serve` answers a request to one of `endpoints`, by path; no body is read beyond `max_body_bytes`.
    """

    def __init__(self, serve: Serve, endpoints: Mapping[str, Endpoint], *, max_body_bytes: int) -> None:
        self.serve = serve
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
        """Return the endpoint that a request's target names, if it is a hot one."""
        endpoint = self._endpoints.get(url)
        if endpoint is None and (b"?" in url or b"%" in url):
            path = unquote(url.partition(b"?")[0].decode("latin-1"))
            endpoint = self._endpoints.get(path.encode("utf-8", "surrogateescape"))
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

    def default_lines(self) -> bytes:
        """Return the header lines that every answer has."""
        return self._listener.lines_of(self.server_state.default_headers)

    # --- asyncio.Protocol ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser, whose callbacks take note, and then let the request go on."""
        waiting = self._hot
        super().data_received(data)
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
        endpoint = self._listener.endpoint(self.url) if parser.get_method() == b"POST" else None
        if endpoint is None or parser.should_upgrade():
            self._hot = None
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers = self.scope["headers"] = headers
            super().on_headers_complete()
            return
        version = parser.get_http_version()
        before = cast("HotCycle | RequestResponseCycle | None", self.cycle)
        hot = self._hot = HotCycle(
            self,
            endpoint,
            self.headers,
            serve=self._listener.serve,
            body_limit_bytes=self._listener.limit_of(endpoint),
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            http_1_0=version == "1.0",
        )
        self.cycle = cast("RequestResponseCycle", hot)
        if before is None or before.response_complete:
            self._next = hot
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
        if self._hot is not None:
            self._hot.more_body = False
            self._hot = None
        else:
            super().on_message_complete()

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
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_for_idleness)

    def _look_for_idleness(self) -> None:
        """Close a connection on which nothing has been asked for long; look again later otherwise."""
        self._idle_timer = None
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        due = (self.loop.time() if busy else self._idle_since) + self.timeout_keep_alive
        if due <= self.loop.time():
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_at(due, self._look_for_idleness)


async def not_served_here(_request: Request) -> Response:
    """Answer a hot path when the app runs under another protocol: a mistake of its operator."""
    raise Internal("this server does not use the gateway's protocol; start it with 'turnout serve'")
