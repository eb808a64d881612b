"""The upstream HTTP client and engines that take no connection, or end one before it is used."""

import asyncio

import pytest

from gateway.upstream.client import Client
from gateway.upstream.connection import Connection
from gateway.upstream.faults import ConnectFailed
from gateway.upstream.origin import Origin
from tests.gateway.test_upstream_client import OK, PATIENT, ask, saying, server


def test_nobody_listens() -> None:
    """A refused connection says that nothing was sent."""

    async def run() -> None:
        async with server(saying(OK)) as there:
            origin = there.origin
        client = Client(PATIENT)
        with pytest.raises(ConnectFailed):
            await ask(client, origin)
        await client.aclose()

    asyncio.run(run())


def test_a_connection_that_ends_before_its_use() -> None:
    """An engine that ends a connection as soon as it is made has got nothing, and no slot is left behind."""

    async def body() -> None:
        client = Client(PATIENT)
        connect = client._connect

        async def ended(origin: Origin) -> Connection:
            connection = await connect(origin)
            connection.connection_lost(None)
            return connection

        client._connect = ended  # type: ignore[method-assign]
        async with server(saying(OK)) as made:
            for asked in (ask(client, made.origin), client.get(made.origin, "/x")):
                with pytest.raises(ConnectFailed, match="before anything was sent"):
                    await asked
        assert client.open_exchanges == 0
        await client.aclose()

    asyncio.run(body())


def test_a_connection_whose_asker_has_just_gone() -> None:
    """A connection that comes to be in the step in which its asker is cancelled is closed, not forgotten."""

    async def body() -> None:
        client, made = Client(PATIENT), []
        connect = client._connect

        async def met(origin: Origin) -> Connection:
            made.append(await connect(origin))
            asyncio.get_running_loop().call_soon(asker.cancel)  # before it hears that this task is done
            return made[0]

        client._connect = met  # type: ignore[method-assign]
        async with server(saying(OK)) as there:
            asker = asyncio.get_running_loop().create_task(client.get(there.origin, "/x"))
            with pytest.raises(asyncio.CancelledError):
                await asker
        assert [connection.closed for connection in made] == [True]
        await client.aclose()

    asyncio.run(body())
