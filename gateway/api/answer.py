"""What a client gets for a request to a hot path: a whole answer, a stream, or an error in either."""

import math

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.api.cycle import HotCycle
from gateway.api.dialects import Dialect
from gateway.errors import TurnoutError

_OK = STATUS_LINE[200]
_JSON = b"content-type: application/json\r\n"
_STREAM = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"  # a proxy in front must not collect events
)


class Answer:
    """One answer. `lines` are header lines for whatever is sent; set them before anything is."""

    __slots__ = ("_begun", "_client", "_dialect", "_last", "lines")

    def __init__(self, client: HotCycle, dialect: Dialect) -> None:
        self.lines = b""
        self._client = client
        self._dialect = dialect
        self._last = b""
        self._begun = False

    def whole(self, body: bytes) -> None:
        """Send a complete JSON answer."""
        self._client.whole(_OK, _JSON + self.lines, body)

    def begin_stream(self, first: bytes) -> None:
        """Send the head of an event stream and its first bytes."""
        self._last = first
        self._client.begin_stream(_OK, _STREAM + self.lines, first)

    def piece(self, data: bytes) -> bool:
        """Send bytes of the stream; return whether the client can take more now."""
        self._last = data
        return self._client.piece(data)

    async def room(self) -> None:
        """Wait until the client can take more."""
        await self._client.room()

    def end_stream(self, last: bytes = b"") -> None:
        """End the stream, after a last piece perhaps."""
        self._client.end_stream(last)

    def error(self, error: TurnoutError) -> None:
        """Send an error: an answer of its own or, in a stream that has begun, its last event.

        What is left of a body that was not read is not waited for: the connection ends then.
        """
        client = self._client
        if client.streaming:
            client.end_stream(self._dialect.event(error, self._last))
            return
        lines = _JSON + self.lines
        if error.retry_after_s is not None:
            lines += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
        if error.status == 401:
            lines += b"www-authenticate: Bearer\r\n"
        if not client.body_read:
            client.keep_alive = False
        client.whole(STATUS_LINE[error.status], lines, orjson.dumps(self._dialect.body(error)))
