"""The client's side of a generation request over ASGI: whole answers, streams, and errors in both."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from gateway.api.dialects import Dialect
from gateway.api.headers import RawHeaders
from gateway.errors import TurnoutError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_STREAM: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy in front must not collect events
]


class Answer:
    """One answer. `headers` are added to whatever is sent; set them before anything is."""

    __slots__ = ("_dialect", "_last", "_send", "_streaming", "headers")

    def __init__(self, send: Send, dialect: Dialect, headers: RawHeaders) -> None:
        self._send = send
        self._dialect = dialect
        self._streaming = False
        self._last = b""
        self.headers = headers

    async def whole(self, body: bytes) -> None:
        """Send a complete JSON answer."""
        await self._respond(200, body, [])

    async def begin_stream(self) -> None:
        """Send the head of an event stream."""
        self._streaming = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *self.headers]})

    async def piece(self, data: bytes) -> None:
        """Send bytes of the stream; returns when the client can take more."""
        self._last = data
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self) -> None:
        """End the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def error(self, error: TurnoutError, *, close: bool = False) -> None:
        """Send an error: an answer of its own or, in a stream that has begun, its last event.

        `close` ends the connection too.
        """
        if self._streaming:
            await self.piece(self._dialect.event(error, self._last))
            await self.end_stream()
            return
        body = orjson.dumps(self._dialect.body(error))
        extra: RawHeaders = []
        if error.retry_after_s is not None:
            extra.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        if error.status == 401:
            extra.append((b"www-authenticate", b"Bearer"))
        if close:
            extra.append((b"connection", b"close"))
        await self._respond(error.status, body, extra)

    async def _respond(self, status: int, body: bytes, extra: RawHeaders) -> None:
        length = (b"content-length", b"%d" % len(body))
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [_JSON, length, *extra, *self.headers],
            }
        )
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
