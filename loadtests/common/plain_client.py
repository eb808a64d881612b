"""A small HTTP/1.1 client on asyncio streams, for loads whose answers are checked: it keeps heads and bodies.

One connection, one request at a time. It costs a tenth of httpx, which matters where the load shares the
machine with what it measures.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60.0


class Broken(Exception):
    """There was no whole answer: no connection, a broken one, or none in time."""


@dataclass
class Answer:
    """One answer. Header names are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Return the events of a stream; `[DONE]` as that text.

        Raises:
            ValueError: an event is no JSON.
        """
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


class PlainClient:
    """A connection to one address, opened when needed and kept while it lasts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None, *, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send a request, once, and return its answer, whatever its status.

        Raises:
            Broken: there was none.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(head.encode() + payload)
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, request: bytes) -> Answer:
        whole = False
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request)
            answer = await _read(reader)
            whole = True
        finally:
            if not whole:  # what is left of it must not be taken for the next answer
                self.close()
        if answer.headers.get("connection") == "close":
            self.close()
        return answer


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, value in fields}
    answer = Answer(int(head[0].split(" ", 2)[1]), headers)
    if headers.get("transfer-encoding") != "chunked":
        answer.body = await reader.readexactly(int(headers.get("content-length", "0")))
        return answer
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    answer.body = b"".join(parts)
    return answer
