"""The least HTTP/1.1 client that a load needs: one connection, one request at a time, as a protocol."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

LAST_CHUNK = b"0\r\n\r\n"
_LENGTH = re.compile(rb"content-length:[ \t]*(\d+)", re.IGNORECASE)


def render(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST request of JSON as bytes."""
    parts = urlsplit(url)
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection. `on_answer(connection, status)` tells the end of an answer; status 0 means it broke."""

    def __init__(self, on_answer: Callable[["Connection", int], None]) -> None:
        self.due = 0.0
        self._on_answer = on_answer
        self._transport: asyncio.Transport | None = None
        self._asked = False
        self._head = b""
        self._status = 0
        self._left: int | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Report an answer that will not come any more."""
        self._transport = None
        self._finish(0)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def local_port(self) -> int | None:
        """The port on this side, while it is open."""
        return None if self._transport is None else self._transport.get_extra_info("sockname")[1]

    def send(self, request: bytes) -> None:
        """Send a request; `on_answer` is called once for it."""
        self._asked = True
        self._head, self._status, self._left, self._tail = b"", 0, None, b""
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """Close, without a report."""
        self._asked = False
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Follow an answer to its end."""
        if not self._status:
            data = self._take_head(data)
            if not self._status:
                return
        if data:
            self.on_body(data)
        if self._left is None:
            self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
            if self._tail == LAST_CHUNK:
                self._finish(self._status)
            return
        self._left -= len(data)
        if self._left <= 0:
            self._finish(self._status)

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body; for those who read it."""

    def _take_head(self, data: bytes) -> bytes:
        """Collect the head; return what follows it."""
        data = self._head + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return b""
        self._status = int(data[9:12])
        found = _LENGTH.search(data, 0, end)
        self._left = int(found[1]) if found else None
        return data[end + 4 :]

    def _finish(self, status: int) -> None:
        if self._asked:
            self._asked = False
            self._on_answer(self, status)


async def connect(url: str, factory: Callable[[], Connection]) -> Connection:
    """Open a connection to a URL's host."""
    parts = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(
        factory, parts.hostname or "", parts.port or 80
    )
    return connection
