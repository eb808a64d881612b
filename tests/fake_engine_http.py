"""The HTTP half of the fake engine: a server small enough to break the protocol on purpose."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object; empty when it is none."""
        value = json.loads(self.body) if self.body else {}
        return value if isinstance(value, dict) else {}


class Reply:
    """The answer to one request."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.keep_alive = True

    def send(self, status: int, body: bytes, content_type: str) -> None:
        """Send a whole answer with a content length."""
        head = (
            f"HTTP/1.1 {status} Status\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: uvicorn\r\n"
            f"content-length: {len(body)}\r\ncontent-type: {content_type}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)

    def json(self, status: int, value: Any) -> None:
        """Send a JSON answer."""
        self.send(status, json.dumps(value).encode(), "application/json")

    def error(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        """Send an error in vLLM's form."""
        self.json(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def drop(self) -> None:
        """Close the connection where it stands."""
        self.keep_alive = False
        self._writer.transport.abort()

    async def endless_headers(self) -> None:
        """Send header after header until the client goes."""
        self._writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self._writer.write(b"x-filler: " + b"y" * 1000 + b"\r\n")
            await self._drain()

    def begin_stream(self) -> None:
        """Send the headers of an event stream."""
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._drain()

    def end_stream(self) -> None:
        """Send the last chunk."""
        self._writer.write(b"0\r\n\r\n")

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise ClientGone from error
        if self._writer.transport.is_closing():
            raise ClientGone


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request, Reply], Awaitable[None]],
) -> None:
    """Answer the requests of one connection, one after another, until either side closes it."""
    try:
        while (request := await _read_request(reader)) is not None:
            reply = Reply(writer)
            if not await _answer_or_abort(request, reply, reader, answer) or not reply.keep_alive:
                return
            await writer.drain()
    except (ClientGone, ConnectionError, asyncio.CancelledError):
        pass  # a cancelled connection is one that the test closed
    finally:
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()


async def _answer_or_abort(
    request: Request,
    reply: Reply,
    reader: asyncio.StreamReader,
    answer: Callable[[Request, Reply], Awaitable[None]],
) -> bool:
    """Run the handler; cancel it when the client goes away. Whether the connection can go on."""
    working = asyncio.ensure_future(answer(request, reply))
    leaving = asyncio.ensure_future(_watch(reader))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _watch(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed; clients here never send a request before the last is answered."""
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - a StreamReader tells its end to nobody
        await asyncio.sleep(0.005)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (entry.split(":", 1) for entry in fields)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request(method, target.split("?")[0], headers, body)
