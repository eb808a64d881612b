"""One gateway worker: uvicorn around the app, with an orderly end."""

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import Settings
from gateway.tracing import TracingMissing

_KEEP_ALIVE_S = 75
_BACKLOG = 2048
_GC_THRESHOLDS = (20_000, 20, 100)


class Worker(uvicorn.Server):
    """A server that drains before it closes. The app's state has `begin_drain()`, which turns readiness red.

    SIGTERM: readiness fails at once, and after `drain_delay_s`, in which load
    balancers notice, no more connections are taken and the running requests are waited for. SIGINT: the
    same without the delay. A second signal of either kind ends the wait.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, drain_delay_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_delay_s = drain_delay_s
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open everything, and take what is there then out of the garbage collector's rounds.

        It would look through all of it again and again, for a fifth of the time that a request takes. What
        comes later is collected as ever, in larger rounds.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install the two handlers for as long as the server runs."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain, self._drain_delay_s)
        loop.add_signal_handler(signal.SIGINT, self.drain, 0.0)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)

    def drain(self, delay_s: float) -> None:
        """Begin to end; a second call ends at once."""
        if self._draining:
            self.force_exit = self.should_exit = True
            return
        self._draining = True
        self._app.state.begin_drain()
        asyncio.get_running_loop().call_later(delay_s, self._close)

    def _close(self) -> None:
        self.should_exit = True


def run(settings: Settings, *, fd: int | None, index: int | None = None) -> int:
    """Serve until a signal; `fd` is a listening socket of the supervisor's, else the address is bound here.

    `index` is this worker's place among the supervisor's workers. Returns the process's exit code: 0, 2 when
    what the settings ask for is not installed, or 3 when the app did not start.
    """
    configure_logging()
    try:
        app = create_app(settings, index=index)
    except TracingMissing as error:
        print(f"turnout: {error}", file=sys.stderr)  # noqa: T201 - this is the command's message
        return 2
    config = uvicorn.Config(
        app,
        host=settings.server.host,
        port=settings.server.port,
        loop="uvloop",
        http=app.state.listener,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.server.drain_timeout_s),
    )
    worker = Worker(config, app, drain_delay_s=settings.server.drain_delay_s)
    worker.run(sockets=None if fd is None else [socket.socket(fileno=fd)])
    return 0 if worker.started else 3


def configure_logging() -> None:
    """Send warnings and worse to standard error, one line each."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
