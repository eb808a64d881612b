"""One gateway worker: uvicorn around the app, with an orderly end."""

import asyncio
import contextlib
import gc
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from gateway import logs
from gateway.app import create_app
from gateway.reloading import Reread
from gateway.settings import Settings
from gateway.supervise.ports import BACKLOG, certificate_of, listen
from gateway.supervise.tls import BadCertificate, Certificate
from gateway.tracing import TracingMissing

_KEEP_ALIVE_S = 75
_GC_THRESHOLDS = (20_000, 20, 100)


class Worker(uvicorn.Server):
    """A server that drains before it closes. The app's state has `begin_drain()`, which turns readiness red.

    SIGTERM: readiness fails at once, and after `drain_delay_s`, in which load
    balancers notice, no more connections are taken and the running requests are waited for. SIGINT: the
    same without the delay. A second signal of either kind ends the wait. SIGHUP: settings and certificate are
    read again.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        *,
        drain_delay_s: float,
        certificate: Certificate | None = None,
        reread: Reread | None = None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._certificate = certificate
        self._reread = reread
        self._watching: asyncio.Task[None] | None = None
        self._drain_delay_s = drain_delay_s
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open everything, and take what is there then out of the garbage collector's rounds.

        It would look through all of it again and again, for a fifth of the time that a request takes. What
        comes later is collected as ever, in larger rounds.
        """
        await super().startup(sockets)
        if self._certificate is not None:
            self._watching = asyncio.get_running_loop().create_task(self._certificate.watch())
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything."""
        if self._watching is not None:
            self._watching.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install the handlers for as long as the server runs."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain, self._drain_delay_s)
        loop.add_signal_handler(signal.SIGINT, self.drain, 0.0)
        loop.add_signal_handler(signal.SIGHUP, self.read_again)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
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

    def read_again(self) -> None:
        """Take new settings and a new certificate, as far as a running worker can."""
        if self._certificate is not None:
            self._certificate.refresh()
        if self._reread is not None:
            self._reread.again()

    def _close(self) -> None:
        self.should_exit = True


def run(
    settings: Settings,
    *,
    fd: int | None,
    admin_fd: int | None = None,
    index: int | None = None,
    reread: Callable[[], Settings] | None = None,
) -> int:
    """Serve until a signal; `fd` is a listening socket of the supervisor's, else the address is bound here.

    `admin_fd` is the same for the administrators' port. `index` is this worker's place among the supervisor's
    workers. `reread` reads the settings again, for SIGHUP. Returns the process's exit code: 0, 2 when what
    the settings ask for is not there, or 3 when the app did not start.
    """
    name = "gateway" if index is None or settings.server.workers == 1 else f"gateway-{index}"
    logs.configure(settings.log.format, settings.log.level, process=name)
    server = settings.server
    try:
        certificate = certificate_of(settings)
        app = create_app(settings, index=index)
        sockets = _sockets(settings, fd, admin_fd)
    except (TracingMissing, BadCertificate, OSError, ValueError) as error:
        print(f"turnout: {error}", file=sys.stderr)  # noqa: T201 - this is the command's message
        return 2
    if server.admin_port is not None:
        app.state.ports.admin = sockets[1].getsockname()[1]
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=app.state.listener,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(server.drain_timeout_s),
        ssl_context_factory=None if certificate is None else (lambda *_: certificate.context),
    )
    takes = {
        **app.state.gateway.takes,
        **dict.fromkeys(
            ("log.format", "log.level"),
            lambda new: logs.configure(new.log.format, new.log.level, process=name),
        ),
    }
    worker = Worker(
        config,
        app,
        drain_delay_s=server.drain_delay_s,
        certificate=certificate,
        reread=None if reread is None else Reread(settings, reread, takes=takes),
    )
    worker.run(sockets=sockets)
    return 0 if worker.started else 3


def _sockets(settings: Settings, fd: int | None, admin_fd: int | None) -> list[socket.socket]:
    server = settings.server
    wanted = [(fd, server.host, server.port)]
    if server.admin_port is not None:
        wanted.append((admin_fd, server.admin_host, server.admin_port))
    return [
        listen(host, port) if handed is None else socket.socket(fileno=handed)
        for handed, host, port in wanted
    ]
