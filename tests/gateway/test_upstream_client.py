"""The upstream HTTP client against servers that behave and misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.upstream.client import Client, Timeouts
from gateway.upstream.connection import HIGH_WATER_BYTES
from gateway.upstream.faults import BadAnswer, ConnectionLost, TimedOut
from gateway.upstream.origin import Origin

PATIENT = Timeouts()
QUICK = {
    "first byte": Timeouts(first_byte_s=0.2),
    "idle": Timeouts(idle_s=0.2),
    "total": Timeouts(total_s=0.5),
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, declared, length = head.lower().partition(b"content-length: ")
    return head + await reader.readexactly(int(length.split(b"\r\n")[0]) if declared else 0)


class Server:
    """Counts connections, and runs a handler on each."""

    def __init__(self, handler: Handler) -> None:
        self.connections = 0
        self.origin = Origin("127.0.0.1", 0, tls=False)
        self.gone = asyncio.Event()
        self._handler = handler

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[Server]:
    """Listen on a free port."""
    made = Server(handler)
    listening = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    made.origin = Origin("127.0.0.1", listening.sockets[0].getsockname()[1], tls=False)
    try:
        yield made
    finally:
        listening.close()


def saying(*answers: bytes, close: bool = False) -> Handler:
    """Answer each request of a connection with the next of these, then perhaps close it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        if not close:
            await reader.read()

    return handler


async def ask(client: Client, origin: Origin, body: bytes = b"{}") -> tuple[int, bytes]:
    """One exchange, read to its end."""
    response = await client.post(origin, "/x", body, request_id="r")
    try:
        return response.status, await response.read_all(1 << 20)
    finally:
        response.close()


WHOLE = [
    (OK, b"hi"),
    (CHUNKED + b"2\r\nhi\r\n3\r\n th\r\n0\r\n\r\n", b"hi th"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hi"),
]


@pytest.mark.parametrize(("answer", "body"), WHOLE)
def test_framings_and_keep_alive(answer: bytes, body: bytes) -> None:
    """Fixed, chunked, empty and interim answers are read, and all on one connection."""

    async def run() -> None:
        async with server(saying(answer, answer)) as there:
            client = Client(PATIENT)
            for _ in range(2):
                assert (await ask(client, there.origin))[1] == body
            assert (there.connections, client.open_exchanges) == (1, 0)
            await client.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\n\r\nhi", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"],
)
def test_an_answer_that_ends_with_its_connection(answer: bytes) -> None:
    """A body without a length ends with the connection, which is not used again."""

    async def run() -> None:
        async with server(saying(answer, close=True)) as there:
            client = Client(PATIENT)
            assert await ask(client, there.origin) == (200, b"hi")
            assert await ask(client, there.origin) == (200, b"hi")
            assert there.connections == 2
            await client.aclose()

    asyncio.run(run())


def test_an_answer_in_single_bytes() -> None:
    """However the answer is cut on its way, it reads the same."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in CHUNKED + b"2\r\nhi\r\n0\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.read()

    async def run() -> None:
        async with server(drip) as there:
            client = Client(PATIENT)
            assert await ask(client, there.origin) == (200, b"hi")
            await client.aclose()

    asyncio.run(run())


def test_nothing_is_sent_twice() -> None:
    """A kept connection that turns out to be closed is a fault that says so; nothing is sent again."""
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)
        await writer.drain()
        seen.append(await read_request(reader))  # and closes without a word

    async def run() -> None:
        async with server(handler) as there:
            client = Client(PATIENT)
            assert await ask(client, there.origin) == (200, b"hi")
            with pytest.raises(ConnectionLost) as lost:
                await ask(client, there.origin)
            assert (lost.value.kept, lost.value.answered) == (True, False)
            assert there.connections == 1
            await client.aclose()

    asyncio.run(run())
    assert len(seen) == 2


def test_a_fresh_connection_that_is_lost_is_no_kept_one() -> None:
    """The loss of a first request's connection can't have another cause than the request or the engine."""

    async def run() -> None:
        async with server(saying(b"", close=True)) as there:
            client = Client(PATIENT)
            with pytest.raises(ConnectionLost) as lost:
                await ask(client, there.origin)
            assert not lost.value.kept
            await client.aclose()

    asyncio.run(run())


def test_get_uses_a_connection_of_its_own() -> None:
    """A GET never waits for or reuses a kept connection, and asks the engine to close its own."""
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            seen.append(request)
            writer.write(OK)
            await writer.drain()

    async def run() -> None:
        async with server(handler) as there:
            client = Client(PATIENT)
            await ask(client, there.origin)
            response = await client.get(there.origin, "/health")
            assert (response.status, await response.read_all(100)) == (200, b"hi")
            response.close()
            assert there.connections == 2
            await client.aclose()

    asyncio.run(run())
    assert seen[1].startswith(b"GET /health HTTP/1.1\r\n")
    assert b"connection: close\r\n" in seen[1]


async def _endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def _dripping_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(CHUNKED)
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


FAULTS: list[tuple[Handler, type[Exception], str]] = [
    (saying(b""), TimedOut, "first byte"),
    (saying(CHUNKED), TimedOut, "first byte"),
    (saying(CHUNKED + b"1\r\nx\r\n"), TimedOut, "idle"),
    (_endless_body, TimedOut, "total"),
    (_endless_head, BadAnswer, "head"),
    (_dripping_head, BadAnswer, "HTTP"),
    (saying(b"SMTP 220 hello\r\n\r\n"), BadAnswer, "HTTP"),
    (saying(CHUNKED + b"zz\r\n"), BadAnswer, "HTTP"),
    (saying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), BadAnswer, "HTTP"),
    (saying(b"", close=True), ConnectionLost, "closed"),
    (saying(CHUNKED + b"5\r\nhal", close=True), ConnectionLost, "closed"),
    (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", close=True), ConnectionLost, "closed"),
    (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000), BadAnswer, "bytes"),
]


@pytest.mark.parametrize(("handler", "fault", "words"), FAULTS)
def test_faults_have_names_and_cost_the_connection(
    handler: Handler, fault: type[Exception], words: str
) -> None:
    """Each way to misbehave has its fault, and nothing stays open."""

    async def run() -> None:
        async with server(handler) as there:
            client = Client(QUICK.get(words, PATIENT))
            with pytest.raises(fault, match=words):
                await ask(client, there.origin)
            assert client.open_exchanges == 0
            await client.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("answer", [b"", CHUNKED + b"1\r\nx\r\n"])
def test_cancelling_closes_the_connection(answer: bytes) -> None:
    """A cancelled exchange closes its connection at once, before the head and in the body alike."""
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        asked.set()
        try:
            await reader.read()
        finally:
            closed.set()

    async def run() -> None:
        async with server(handler) as there:
            client = Client(Timeouts())
            task = asyncio.create_task(ask(client, there.origin))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.open_exchanges == 0
            async with asyncio.timeout(5):
                await closed.wait()
            await client.aclose()

    asyncio.run(run())


def test_a_slow_reader_stops_the_engine() -> None:
    """While nobody reads, no more than a bounded amount is taken from the engine; and no timeout fires."""
    sent = 0
    total = 64 * 1024 * 1024

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()
        await reader.read()

    async def run() -> None:
        async with server(pour) as there:
            client = Client(Timeouts(idle_s=0.2, total_s=60.0))
            response = await client.post(there.origin, "/x", b"{}", request_id="r")
            previous = -1
            while previous != sent:
                previous = sent
                await asyncio.sleep(0.3)  # longer than the idle timeout
            assert sent < total / 2
            assert response._size < HIGH_WATER_BYTES + 512 * 1024
            client._timeouts = PATIENT  # what was to be shown is over
            received = 0
            while data := await response.read():
                received += len(data)
            assert received == total
            response.close()
            await client.aclose()

    asyncio.run(run())


def test_bytes_that_belong_to_no_answer_cost_the_connection() -> None:
    """A server that speaks unasked is not trusted with the next request."""

    async def run() -> None:
        async with server(saying(OK + b"junk", OK)) as there:
            client = Client(PATIENT)
            assert await ask(client, there.origin) == (200, b"hi")
            await asyncio.sleep(0.05)
            assert await ask(client, there.origin) == (200, b"hi")
            assert there.connections == 2
            await client.aclose()

    asyncio.run(run())


def test_contention_with_cancellation_leaves_nothing() -> None:
    """Hundreds of exchanges, many cancelled at odd moments, leave no exchange open."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await asyncio.sleep(0.002)
            writer.write(OK)
            await writer.drain()

    async def run() -> None:
        async with server(slow) as there:
            client = Client(Timeouts())
            tasks = []
            for number in range(300):
                task = asyncio.create_task(ask(client, there.origin))
                tasks.append(task)
                if number % 3:
                    asyncio.get_running_loop().call_later((number % 7) / 1000, task.cancel)
                if number % 20 == 0:
                    await asyncio.sleep(0.001)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(r == (200, b"hi") or isinstance(r, asyncio.CancelledError) for r in results)
            assert client.open_exchanges == 0
            assert await ask(client, there.origin) == (200, b"hi")
            await client.aclose()

    asyncio.run(run())
