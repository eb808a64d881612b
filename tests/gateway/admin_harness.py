"""A real server with the admin API on a store of its own, for tests of the API and of the CLI."""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from sqlalchemy import MetaData, delete

from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from adapters.sources.fetching import Sources
from adapters.sources.policy import SourcePolicy
from gateway.api.addresses import Addresses
from gateway.api.admin import AdminDeps, build_router
from gateway.api.errors import install_error_handlers
from gateway.auth import Authenticator, mint
from gateway.controller.catalogue import Catalogue
from gateway.controller.experimenter import Experimenter, ExperimenterConfig
from gateway.core.refs import VersionRef
from gateway.core.requests import Principal, Role
from gateway.core.routes import RouteStatus
from gateway.core.steps import Moment, begun
from gateway.peppers import Peppers, load_pepper
from gateway.store import schema
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, RegistrationRow, RegistrationState, WorkerRow
from gateway.store.requests import Requests
from tests.adapters.folders import BASE_NAME, make_adapter

INCARNATION = "1000.0"
REPLICA = "r0"


class Server:
    """An ASGI app on a loopback port of its own, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, host="127.0.0.1", port=0, log_config=None, ws="none", timeout_graceful_shutdown=5
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            threading.Event().wait(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)

    @property
    def url(self) -> str:
        """The address of the server."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@dataclass
class AdminService:
    """What a test holds: the stores behind the server, and a client with an administrator's key."""

    url: str
    key: str
    http: httpx.Client
    control: ControlStore
    requests: Requests
    registry: Registry
    folder: Path
    databases: list[tuple[Database, MetaData]]
    ready: bool = True
    epoch: int = 0

    def reset(self) -> Self:
        """Empty both stores and make an administrator's key: a server for each test would take 0.4 s."""
        for database, tables in self.databases:
            with database.write() as connection:
                for table in tables.sorted_tables:
                    connection.execute(delete(table))
        shutil.rmtree(self.registry.root / "blobs", ignore_errors=True)
        self.ready, self.epoch = True, 0
        self.key = self.key_with(Role.ADMIN)
        self.http.headers["Authorization"] = f"Bearer {self.key}"
        return self

    def adapter(self, name: str = "support", *, seed: int = 0) -> VersionRef:
        """Add a version straight to the registry."""
        source = make_adapter(self.folder / f"{name}-{seed}", seed=seed)
        row, _ = self.registry.add(name, source, actor="test")
        return row.ref

    def key_with(self, *roles: Role) -> str:
        """Make a key with these roles and return its text."""
        text, row = mint(label="", tenant="default", roles=roles, pepper=load_pepper(self.folder))
        self.control.keys.add(row, actor="test")
        return text

    def controller(self, *, ttl_s: float = 600.0) -> None:
        """Take the controller's lease, with one healthy replica and one live worker."""
        epoch = self.control.fleet.acquire(CONTROLLER, "controller-1", ttl_s=ttl_s)
        assert epoch is not None
        self.epoch = epoch
        self.control.fleet.set_replicas({REPLICA: ("http://127.0.0.1:9", None)})
        self.replica(healthy=True)
        self.beat()

    def replica(self, *, healthy: bool, reason: str | None = None) -> None:
        """Record how the replica is."""
        self.control.fleet.observe(
            REPLICA, epoch=self.epoch, healthy=healthy, incarnation=INCARNATION, reason=reason
        )

    def beat(self, worker: str = "w0", *, at: float | None = None) -> None:
        """Record a sign of life of a worker that has applied everything."""
        generation = self.control.generation()
        self.control.fleet.beat(WorkerRow(worker, generation, {"support@1": 2}, at or time.time()))

    def register(
        self, ref: VersionRef, state: RegistrationState = "attested", *, reason: str | None = None
    ) -> None:
        """Record what became of a version on the replica."""
        row = RegistrationRow(REPLICA, ref, INCARNATION, "sha256:00", state, {"mean": 0.1}, reason, 1.0)
        self.control.fleet.set_registration(row, epoch=self.epoch)

    def activate(self, name: str) -> None:
        """Do what the controller does when every version of a route is attested."""
        route = self.control.routes.get(name)
        assert route is not None
        status = RouteStatus(
            state="active", active_generation=route.generation, effective_arms=route.spec.arms
        )
        self.control.routes.set_status(name, status, generation=route.generation, actor="controller")

    def look(self, name: str) -> None:
        """Do what the controller does about a route's experiment, once."""
        route = self.control.routes.get(name)
        assert route is not None
        looks = Experimenter(
            self.control,
            self.requests,
            catalogue=Catalogue(self.control.versions),
            check=lambda _: None,
            config=ExperimenterConfig(settle_s=0.0),
        )
        asyncio.run(looks.look(route, self.epoch))

    def begin_canary(self, name: str) -> None:
        """Do what the controller does when a route with a canary is ready."""
        self.activate(name)
        route = self.control.routes.get(name)
        assert route is not None
        status = begun(route.spec, route.status, Moment(time.time(), self.control.generation()))
        self.control.routes.set_status(name, status, generation=route.generation, actor="controller")

    def fail(self, name: str, reason: str) -> None:
        """Do what the controller does when a route can't be served."""
        route = self.control.routes.get(name)
        assert route is not None
        status = route.status.model_copy(update={"state": "failed", "reason": reason})
        self.control.routes.set_status(name, status, generation=route.generation, actor="controller")

    def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Call the server and return status and document."""
        answer = self.http.request(method, path, **more)
        return answer.status_code, answer.json() if answer.content else None


@contextmanager
def admin_service(folder: Path, *, open_access: bool = False) -> Iterator[AdminService]:
    """Run the admin API on a fresh store; an administrator's key exists unless access is open."""
    control_db = Database(f"sqlite:///{folder / 'control.db'}", "control", durable=False)
    requests_db = Database(f"sqlite:///{folder / 'requests.db'}", "requests", durable=False)
    databases = [(control_db, schema.control), (requests_db, schema.requests)]
    for database, tables in databases:
        if open_access:
            database.migrate()
            continue
        with database.write() as connection:
            tables.create_all(connection)  # ten times as fast as the migrations, which have their own tests
    control, requests = ControlStore(control_db), Requests(requests_db)
    base = BaseIdentity(name=BASE_NAME, digest="sha256:" + "0" * 64)
    registry = Registry(folder / "adapters", control.versions, base=base, max_rank=16)
    pepper = load_pepper(folder)
    authenticator = Authenticator(Peppers(pepper), admin_key=None, open_access=open_access)

    def authenticate(request: Request) -> Principal:
        keys = {row.id: row for row in control.keys.rows()}
        return authenticator.authenticate(request.headers.get("authorization"), keys)

    deps = AdminDeps(
        control=control,
        requests=requests,
        registry=registry,
        sources=Sources(registry.root, SourcePolicy(roots=None, private_addresses=True)),
        authenticate=authenticate,
        in_flight=lambda: {"support@1": 1},
        pepper=pepper,
        base=base,
        report_root=folder / "reports",
        state_dir=folder,
        addresses=Addresses(["127.0.0.1"]),
    )
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(build_router(deps))
    service: AdminService

    @app.get("/readyz")
    def readyz() -> Response:
        return Response("{}", status_code=200 if service.ready else 503)

    try:
        with (
            Server(app) as server,
            httpx.Client(base_url=server.url, timeout=30, headers={"connection": "close"}) as http,
        ):
            service = AdminService(server.url, "", http, control, requests, registry, folder, databases)
            yield service if open_access else service.reset()
    finally:
        control_db.close()
        requests_db.close()
