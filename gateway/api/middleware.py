"""What every answer beside the hot path has in common: its headers, a bounded body, and no leaked fault.

Raw ASGI, since a response may be a stream. The hot paths never come here (`gateway.api.listener`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException

from gateway.api.cors import Cors
from gateway.api.dialects import dialect_of
from gateway.api.headers import RawHeaders, clean_client_id, identity_headers
from gateway.api.pages import protection
from gateway.api.ports import Ports
from gateway.errors import Internal, NotFound, TurnoutError
from gateway.telemetry import Telemetry

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLOSE = {"connection": "close"}
_log = logging.getLogger("turnout.http")


class EveryAnswer:
    """The outermost layer of the app. `ports` says which paths there are on the port that was called."""

    def __init__(
        self,
        app: App,
        *,
        new_id: Callable[[], str],
        telemetry: Telemetry,
        max_body_bytes: int,
        body_timeout_s: float,
        cors: Cors,
        ports: Ports,
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._telemetry = telemetry
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._cors = cors
        self._ports = ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the headers of its answer added."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        request_id = self._new_id()
        headers = identity_headers(request_id, clean_client_id(given.get(b"x-request-id")))
        crossing = self._cors.covers(scope["path"])
        if crossing:
            headers = headers + self._cors.headers(given.get(b"origin"))
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", ()))
                message = {**message, "headers": [*own, *protection(own), *headers]}
            await send(message)

        if not self._ports.serves(scope["path"], scope.get("server")):
            await _answer(send_with_headers, NotFound("Not Found"), scope["path"])
            return
        if crossing and scope["method"] == "OPTIONS" and (allowed := self._cors.preflight(given)) is not None:
            await _preflight(send, [*allowed, *identity_headers(request_id, None)])
            return
        try:
            await self._app(scope, self._bounded(scope, receive), send_with_headers)
        except Exception:
            self._telemetry.background_errors.labels("http").inc()
            _log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            if started:
                raise
            error = Internal("an internal error occurred; the gateway's log has its cause")
            await _answer(send_with_headers, error, scope["path"])

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Bound the body's bytes and the time that it takes; `/admin` has a limit of bytes of its own.

        FastAPI turns any other exception of a body than its own into a 400. The connection ends: what is left
        of the body is not waited for.
        """
        limited = scope["path"].startswith("/v1/")
        seen = 0
        whole = False
        deadline: float | None = None

        async def counted() -> Message:
            nonlocal seen, whole, deadline
            if whole:  # from now on it only hears whether the client has left
                return await receive()
            if deadline is None:
                deadline = asyncio.get_running_loop().time() + self._body_timeout_s
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                said = f"the body did not arrive within {self._body_timeout_s:g} s"
                raise HTTPException(408, said, headers=_CLOSE) from None
            seen += len(message.get("body", b""))
            if limited and seen > self._max_body_bytes:
                raise HTTPException(413, f"the body is over {self._max_body_bytes} bytes", headers=_CLOSE)
            whole = not message.get("more_body", False)
            return message

        return counted


async def _answer(send: Send, error: TurnoutError, path: str) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    body = orjson.dumps(dialect_of(path).body(error))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _preflight(send: Send, headers: RawHeaders) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
