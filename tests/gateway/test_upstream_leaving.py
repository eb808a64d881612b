"""Connections to an engine whose answers have said all before their body ends."""

import asyncio

import pytest

from gateway.upstream import connection as connection_of_upstream
from gateway.upstream.client import Client
from tests.gateway.test_upstream_client import CHUNKED, OK, PATIENT, read_request, server


@pytest.mark.parametrize(
    ("rest", "connections"),
    [
        ([b"0\r\n\r\n"], 1),
        ([b"4\r\nmore\r\n", b"0\r\n\r\n"], 1),
        ([b"4\r\nmore\r\n"], 2),
        ([b"no chunk"], 2),
        ([b""], 2),
    ],
    ids=["its end comes", "something before its end", "no end", "no HTTP", "end of the connection"],
)
def test_an_answer_that_is_left_keeps_its_connection_if_it_ends(
    rest: list[bytes], connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exchange ends soon, one way or another, and the next request gets its own answer."""
    monkeypatch.setattr(connection_of_upstream, "LEFT_S", 0.3)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED + b"2\r\nhi\r\n")
        for part in rest:
            await asyncio.sleep(0.05)
            if not part:
                return
            writer.write(part)
        await read_request(reader)
        writer.write(OK)
        await reader.read()

    async def run() -> None:
        async with server(handler) as there:
            client = Client(PATIENT)
            response = await client.post(there.origin, "/x", b"{}", request_id="r")
            assert await response.read() == b"hi"
            response.leave()
            response.close()
            assert client.open_exchanges == 1
            for _ in range(1000):
                if not client.open_exchanges:
                    break
                await asyncio.sleep(0.01)
            following = await client.post(there.origin, "/x", b"{}", request_id="r")
            assert await following.read() == b"hi"
            following.close()
            assert there.connections == connections
            await client.aclose()

    asyncio.run(run())
