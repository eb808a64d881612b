"""The gateway worker's end: readiness first, then the connections, then the process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from gateway.supervise.worker import Worker

_PATIENCE_S = 20.0


def _app() -> FastAPI:
    app = FastAPI()
    app.state.draining = False
    app.state.release = asyncio.Event()
    app.state.begin_drain = lambda: setattr(app.state, "draining", True)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first "
        await app.state.release.wait()
        yield b"last"

    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces())

    app.get("/stream")(stream)
    return app


@asynccontextmanager
async def _served(app: FastAPI, *, drain_delay_s: float = 0.0) -> AsyncIterator[tuple[Worker, str]]:
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=20)
    worker = Worker(config, app, drain_delay_s=drain_delay_s)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(worker.serve(sockets=[listener]))
    await _until(lambda: worker.started)
    try:
        yield worker, url
    finally:
        worker.should_exit = worker.force_exit = True
        app.state.release.set()
        await asyncio.wait_for(task, _PATIENCE_S)


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - uvicorn tells by attributes
        await asyncio.sleep(0.01)


def _play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene(), _PATIENCE_S)

    asyncio.run(bounded())


def test_running_requests_are_finished() -> None:
    """A stream that runs when the drain begins is answered to its end, while new connections are refused."""

    async def scene() -> None:
        app = _app()
        async with (
            _served(app) as (worker, url),
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("GET", f"{url}/stream") as response,
        ):
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"first "
            worker.drain(0.0)
            assert app.state.draining
            await _until(lambda: not worker.servers[0].is_serving())
            async with httpx.AsyncClient(trust_env=False) as stranger:
                with pytest.raises(httpx.ConnectError):
                    await stranger.get(f"{url}/stream")
            app.state.release.set()
            assert b"".join([piece async for piece in pieces]) == b"last"

    _play(scene)


def test_readiness_fails_before_connections_do() -> None:
    """During the delay the worker reports that it drains and goes on taking connections."""

    async def scene() -> None:
        app = _app()
        app.state.release.set()
        async with _served(app) as (worker, url), httpx.AsyncClient(trust_env=False) as client:
            worker.drain(600.0)
            assert app.state.draining
            assert (await client.get(f"{url}/stream")).text == "first last"
            assert not worker.should_exit

    _play(scene)


def test_a_second_request_to_end_does_not_wait() -> None:
    """Asked twice, the worker closes at once."""

    async def scene() -> None:
        async with _served(_app()) as (worker, _):
            worker.drain(600.0)
            worker.drain(600.0)
            assert worker.should_exit
            assert worker.force_exit

    _play(scene)
