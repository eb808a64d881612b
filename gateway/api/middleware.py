"""What every answer beside the hot path has in common: its headers, a bounded body, and no leaked fault.

Raw ASGI, since a response may be a stream. The hot paths never come here (`gateway.api.listener`).
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException

from gateway.api.headers import clean_client_id, identity_headers
from gateway.errors import Internal
from gateway.telemetry import Telemetry

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("turnout.http")


class EveryAnswer:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: App,
        *,
        new_id: Callable[[], str],
        telemetry: Telemetry,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._telemetry = telemetry
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the headers of its answer added."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_id = clean_client_id(dict(scope["headers"]).get(b"x-request-id"))
        request_id = self._new_id()
        headers = identity_headers(request_id, client_id)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        try:
            await self._app(scope, self._bounded(scope, receive), send_with_headers)
        except Exception:
            self._telemetry.background_errors.labels("http").inc()
            _log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            if started:
                raise
            await _internal(send_with_headers)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Count the body's bytes; `/admin` has a limit of its own."""
        if not scope["path"].startswith("/v1/"):
            return receive
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                # FastAPI turns any other exception of a body into a 400.
                raise HTTPException(413, f"the body is over {self._max_body_bytes} bytes")
            return message

        return counted


async def _internal(send: Send) -> None:
    error = Internal("an internal error occurred; the gateway's log has its cause")
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(error.body()), "more_body": False})
