"""The HTTP client of the hot path: slim, for engines on a private network.

Written because general clients cost more than the rest of a request and leak pool slots when a request is
cancelled, which is a gateway's normal case. It speaks HTTP/1.1 with keep-alive, fixed and chunked bodies,
optional TLS; no redirects, no cookies, no compression, no proxies. How many requests run at once is decided
by leases, not here. What goes wrong is in `gateway.upstream.faults`.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.eager import in_task
from gateway.upstream.connection import Connection, Response
from gateway.upstream.faults import ConnectFailed, ConnectionLost
from gateway.upstream.origin import Origin

TICK_S = 0.1
MAX_IDLE_S = 4.0
"""An engine's uvicorn closes an idle connection after 5 s; ours are not reused that late."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte_s` runs until the first byte of the body, `idle_s` between bytes after it."""

    connect_s: float = 2.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 900.0


class Client:
    """Keeps connections by origin. Belongs to one event loop."""

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        max_head_bytes: int = 64 * 1024,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._max_head_bytes = max_head_bytes
        self._tls = tls
        self._heads: dict[tuple[str, str], str] = {}
        self._idle: dict[str, list[Connection]] = {}
        self._active: dict[Connection, Origin] = {}
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def open_exchanges(self) -> int:
        """How many connections carry a request now."""
        return len(self._active)

    async def post(
        self,
        origin: Origin,
        path: str,
        body: bytes,
        *,
        request_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a JSON body and return the answer once its head is there. The caller closes it.

        The engine makes its answer's id of `request_id`; `headers` go with it.

        Nothing is ever sent twice. A connection that the engine closed while it was idle shows only when it
        is used; the fault then says that it was a kept one, and to send again is for the caller to decide.

        Raises:
            ConnectFailed: nothing was sent.
            UpstreamFault: the head did not come; the engine may have seen the request.
        """
        request = self._render(origin, path, body, request_id, headers)
        kept = self._take(origin)
        connection = await self._connected(origin) if kept is None else kept
        response = self._begin(connection, origin, request)
        try:
            await response.head()
        except ConnectionLost as lost:
            lost.kept = kept is not None
            response.close()
            raise
        except BaseException:  # cancelled or broken: either way nobody will read this answer
            response.close()
            raise
        return response

    async def get(self, origin: Origin, path: str) -> Response:
        """Ask for `path` on a connection of its own, and return the answer as `post` does.

        Raises:
            UpstreamFault: there is none.
        """
        request = (
            f"GET {origin.prefix}{path} HTTP/1.1\r\nhost: {origin.authority}\r\nconnection: close\r\n\r\n"
        )
        response = self._begin(await self._connected(origin), origin, request.encode("latin-1"))
        try:
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    async def aclose(self) -> None:
        """Close every connection. Answers under way end with ConnectionLost."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        idle = [connection for group in self._idle.values() for connection in group]
        for connection in (*idle, *self._active):
            connection.abort(ConnectionLost("the gateway is shutting down", answered=False))
        self._idle.clear()
        self._active.clear()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _begin(self, connection: Connection, origin: Origin, request: bytes) -> Response:
        self._active[connection] = origin
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return connection.start(request)

    async def _connect(self, origin: Origin) -> Connection:
        tls = self._context() if origin.tls else None
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(max_head_bytes=self._max_head_bytes, on_done=self._done),
                    origin.host,
                    origin.port,
                    ssl=tls,
                )
        except TimeoutError as error:
            raise ConnectFailed(f"no connection to {origin.authority} in time") from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are of this kind
            raise ConnectFailed(f"no connection to {origin.authority}: {error}") from error
        return connection

    async def _connected(self, origin: Origin) -> Connection:
        """Return a new connection that is open in this step: an engine may end one as soon as it is made."""
        connection = await in_task(self._connect(origin), unclaimed=_drop)
        if connection.closed:
            raise ConnectFailed(f"{origin.authority} closed the connection before anything was sent")
        return connection

    def _render(
        self, origin: Origin, path: str, body: bytes, request_id: str, headers: Mapping[str, str] | None
    ) -> bytes:
        head = self._heads.get((origin.key, path))
        if head is None:
            head = self._heads[origin.key, path] = (
                f"POST {origin.prefix}{path} HTTP/1.1\r\nhost: {origin.authority}\r\n"
                "content-type: application/json\r\n"
            )
        more = "" if headers is None else "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{head}content-length: {len(body)}\r\nx-request-id: {request_id}\r\n{more}\r\n"
        return head.encode("latin-1") + body

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _take(self, origin: Origin) -> Connection | None:
        group = self._idle.get(origin.key)
        while group:
            connection = group.pop()
            if connection.closed:
                continue
            if connection.idle_s <= MAX_IDLE_S:
                return connection
            connection.abort(ConnectionLost("idle for too long", answered=False))
        return None

    def _done(self, connection: Connection, reusable: bool) -> None:
        origin = self._active.pop(connection, None)
        if origin is not None and reusable:
            self._idle.setdefault(origin.key, []).append(connection)

    def _tick(self) -> None:
        """Look at every deadline: one timer for all exchanges is cheaper than one for each."""
        self._ticking = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        limits = self._timeouts
        for connection in list(self._active):
            connection.check(
                now, first_byte_s=limits.first_byte_s, idle_s=limits.idle_s, total_s=limits.total_s
            )
        self._sweep_idle(now)
        if self._active or any(self._idle.values()):
            self._ticking = loop.call_later(TICK_S, self._tick)

    def _sweep_idle(self, now: float) -> None:
        for key, group in list(self._idle.items()):
            fresh = []
            for connection in group:
                if connection.closed:
                    continue
                if now - connection.idle_since > MAX_IDLE_S:
                    connection.abort(ConnectionLost("idle for too long", answered=False))
                else:
                    fresh.append(connection)
            if fresh:
                self._idle[key] = fresh
            else:
                del self._idle[key]


def _drop(connection: Connection) -> None:
    """Close a connection that came to be in the step in which its asker went away."""
    connection.abort(ConnectionLost("nobody asks any more", answered=False))
