"""A whole gateway for tests: the real app under uvicorn, its store filled as a controller would."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from gateway import configs
from gateway.app import create_app
from gateway.auth import mint
from gateway.core.refs import VersionRef
from gateway.core.requests import RequestRow, Role
from gateway.core.routes import Arm, RouteSpec, RouteStatus
from gateway.peppers import load_pepper
from gateway.replicas.breaker import Breaker
from gateway.replicas.budget import RetryBudget
from gateway.settings import BaseModelSettings, Settings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, RegistrationRow
from gateway.store.requests import Requests
from tests.fake_engine import BASE_MODEL, FakeEngine

DIGEST = "sha256:" + "0" * 64
PATIENCE_S = 30.0
"""A machine that stalls for some seconds fails no test that waits for an event."""
HEALTH_TIMEOUT_S = 10.0
"""Likewise: an engine that is late with its health check is not sick."""


class Store:
    """The control store, written to as a controller and an administrator would."""

    def __init__(self, settings: Settings) -> None:
        self._databases = [
            Database(settings.control_url, "control"),
            Database(settings.requests_url, "requests", durable=False),
        ]
        for database in self._databases:
            database.migrate()
        self.control = ControlStore(self._databases[0])
        self.requests = Requests(self._databases[1])
        self._pepper = load_pepper(settings.state_dir)
        self.epoch = self.control.fleet.acquire(CONTROLLER, "test", ttl_s=3600.0) or 0

    def close(self) -> None:
        for database in self._databases:
            database.close()

    def engines(self, engines: Mapping[str, FakeEngine]) -> None:
        """Make these the fleet, all of them healthy."""
        self.control.fleet.set_replicas({name: (engine.url, None) for name, engine in engines.items()})
        for name, engine in engines.items():
            self.healthy(name, engine)

    def healthy(self, name: str, engine: FakeEngine, *, healthy: bool = True) -> None:
        self.control.fleet.observe(name, epoch=self.epoch, healthy=healthy, incarnation=engine.incarnation)

    def attest(self, name: str, engine: FakeEngine, *labels: str) -> None:
        """Say that these versions are attested on a replica."""
        for label in labels:
            ref = VersionRef.parse(label)
            assert ref is not None
            row = RegistrationRow(name, ref, engine.incarnation, DIGEST, "attested", None, None, time.time())
            self.control.fleet.set_registration(row, epoch=self.epoch)

    def version(self, name: str) -> str:
        """Add the next version of an adapter; return its label. The first one also makes a route."""
        known = len(self.control.versions.rows(name))
        digest = f"sha256:{known:064x}"
        row, _ = self.control.versions.add(name, digest, {"digest": digest}, actor="test")
        return str(row.ref)

    def route(self, name: str, shares: Mapping[str, float], **spec: Any) -> None:
        """Set a route and flip its traffic to it."""
        arms = tuple(Arm(adapter=label, share=share) for label, share in shares.items())
        route, _ = self.control.routes.put(name, RouteSpec(arms=arms, **spec), actor="test")
        status = RouteStatus(state="active", active_generation=route.generation, effective_arms=arms)
        self.control.routes.set_status(name, status, generation=route.generation, actor="test")

    def key(self, *roles: Role, tenant: str = "default", models: Sequence[str] | None = None) -> str:
        """Make an API key."""
        text, row = mint(label="test", tenant=tenant, roles=roles, pepper=self._pepper, models=models)
        self.control.keys.add(row, actor="test")
        return text


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    url: str
    app: FastAPI
    store: Store
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    admin_url: str = ""

    def settle(self) -> None:
        """Wait until the gateway serves the store's present generation."""
        wanted = self.store.control.generation()
        wait_until(lambda: self.ready()["table"]["generation"] >= wanted)

    def ready(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/readyz").json())

    def calm(self) -> None:
        """Forget every failure: circuits closed, retry budget full, nothing in quarantine."""

        def work() -> None:
            gateway = self.app.state.gateway
            for replica in gateway.pool.replicas:
                replica.breaker = Breaker()
                replica.follow_circuit()
                replica.silent = 0
                gateway.telemetry.replica_circuit.labels(replica.id).set(0)
            gateway.pool._look_at_circuits()
            gateway.quarantine._until.clear()
            gateway.proxy._budget = RetryBudget(lambda: gateway.pool.requests)
            done.set()

        done = threading.Event()
        self.loop.call_soon_threadsafe(work)
        assert done.wait(PATIENCE_S)

    def rest(self) -> None:
        """Wait until nothing is under way, and every row is stored: what a test leaves meets the next one."""

        async def work() -> None:
            while not self.nothing_is_left():  # noqa: ASYNC110 - its parts have no event in common
                await asyncio.sleep(0.005)
            assert await self.app.state.gateway.recorder.settle(PATIENCE_S)

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(work(), PATIENCE_S), self.loop).result()

    def nothing_is_left(self) -> bool:
        """Whether every lease, slot, wait, check and count has been given back."""
        parts = self.app.state.gateway
        return (
            (parts.pool.leased, parts.pool.waiting, parts.in_flight.total) == (0, 0, 0)
            and (parts.client.open_exchanges, parts.health.under_way) == (0, 0)
            and (parts.registrar.under_way, len(parts.proxy._inquests)) == (0, 0)
        )

    def limit(self, *, health_timeout_s: float | None = None, **limits: float) -> None:
        """Change what `limits` says of timeouts, at once; without arguments, back to the settings."""
        parts = self.app.state.gateway
        changed = parts._settings.limits.model_copy(update=limits)
        parts.client._timeouts = configs.timeouts(changed)
        parts.pool._queue_timeout_s = changed.queue_timeout_s
        object.__setattr__(parts.hot_path, "body_timeout_s", changed.body_timeout_s)
        parts.health._timeout_s = HEALTH_TIMEOUT_S if health_timeout_s is None else health_timeout_s

    def row(self, request_id: str) -> RequestRow:
        """The recorded row of a request, once it is stored."""
        found: list[RequestRow] = []

        def stored() -> bool:
            row = self.store.requests.find(request_id)
            found.extend([row] if row else [])
            return bool(found)

        wait_until(stored)
        return found[0]

    def metric(self, line: str) -> float:
        """The value of one sample of /metrics, named as it is written there; 0 when there is none."""
        for written in httpx.get(f"{self.url}/metrics").text.splitlines():
            if written.startswith(line + " "):
                return float(written.rsplit(" ", 1)[1])
        return 0.0


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that another thread is about to make true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def settings_for(state_dir: Path, **sections: Any) -> Settings:
    """Settings with fast polls."""
    values: dict[str, Any] = {
        "base": BaseModelSettings(model="/no/such/base", served_name=BASE_MODEL),
        "auth": {"poll_s": 0.02},
        "recording": {"interval_s": 0.02},
        "placement": {"cold_load_timeout_s": 0.5},  # no controller runs here
        **sections,
    }
    return Settings(state_dir=state_dir, **values)


@contextmanager
def running(settings: Settings) -> Iterator[Gateway]:
    """Run a gateway on a free loopback port until the block ends."""
    store = Store(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=app.state.listener,
        ws="none",
        server_header=False,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    loops: list[asyncio.AbstractEventLoop] = []

    listeners = [socket.create_server(("127.0.0.1", 0))]
    if settings.server.admin_port is not None:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        app.state.ports.admin = listeners[1].getsockname()[1]
    urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=listeners)

    def run() -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="gateway")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the gateway did not start"
        gateway = Gateway(urls[0], app, store, server, loops[0], admin_url=urls[-1])
        gateway.limit()
        yield gateway
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        store.close()
