"""The inhabitants of `swap_world`: engines, controllers' wires and gateway workers, all without sockets."""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from gateway.controller.blobs import Blobs
from gateway.controller.loop import Controller
from gateway.core.requests import Principal
from gateway.core.routes import Capture
from gateway.errors import TurnoutError
from gateway.replicas.heartbeat import Heartbeat
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import Lease as Place
from gateway.replicas.pool import Pool
from gateway.replicas.registrar import Attested, Registrar
from gateway.routing.resolve import resolve
from gateway.routing.table import RoutingTable
from gateway.routing.watcher import OVERDUE_S, TableWatcher
from gateway.telemetry import Telemetry
from gateway.upstream.origin import Origin
from tests.fake_engine import BASE_MODEL, FakeEngine
from tests.fake_engine_http import Request

if TYPE_CHECKING:
    from tests.gateway.swap_world import World

WHO = Principal("key", "tenant", frozenset())


class MemoryReply:
    """The fake engine's answer, kept instead of sent."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    def send(self, status: int, body: bytes, content_type: str) -> None:  # noqa: ARG002 - the reply's signature
        self.status, self.body = status, body

    def json(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), "")

    def error(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        self.json(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def drop(self) -> None:
        self.status = 0


class Machine:
    """An engine's machine: the engine runs or does not."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.url = f"http://{name}"
        self.up = True
        self.engine = FakeEngine(max_cpu_loras=1)
        self.loaded: set[str] = set()  # paths that this incarnation may read

    async def call(self, method: str, path: str, body: bytes = b"") -> MemoryReply:
        """Ask the engine; status 0 is a broken connection."""
        reply = MemoryReply()
        if self.up:
            await self.engine._answer(Request(method, path, {}, body), reply)  # type: ignore[arg-type]
        if path.endswith("/load_lora_adapter") and reply.status == 200:
            self.loaded.add(json.loads(body)["lora_path"])
        return reply

    def restart(self) -> None:
        """Begin a new incarnation, which has read nothing."""
        self.engine.restart()
        self.loaded.clear()
        self.up = True


@dataclass
class Process:
    """A controller process: `freeze_after` counts the answers after which it stands still."""

    holder: str
    controller: Controller
    transport: "Wire"
    turn: "asyncio.Task[bool] | None" = None


class Wire(httpx.AsyncBaseTransport):
    """A controller's way to the engines."""

    def __init__(self, world: "World", holder: str) -> None:
        self._world = world
        self._holder = holder
        self.freeze_after: int | None = None
        self.thawed = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        machine = self._world.machines[request.url.host]
        self._world.check_call(self._holder, machine, request)
        reply = await machine.call(request.method, request.url.path, await request.aread())
        if self.freeze_after is not None:
            self.freeze_after -= 1
            if self.freeze_after <= 0:
                await self.thawed.wait()
        if reply.status == 0:
            raise httpx.ConnectError("no answer")
        return httpx.Response(reply.status, content=reply.body)


@dataclass
class Asked:
    """A request of a worker: entered, and sent to a machine or waiting still."""

    label: str
    place: Place | None = None


class Worker:
    """A gateway worker: the real table, pool, counts, heartbeat and registrar, without sockets."""

    def __init__(self, world: "World", name: str) -> None:
        self.id = name
        self.last_beat = world.now
        self.asked: list[Asked] = []
        self._world = world
        telemetry = Telemetry()
        self.in_flight = InFlight()
        self.pool = Pool(limit_per_replica=100, max_queue=0, queue_timeout_s=1.0)
        self.watcher = TableWatcher(
            world.store,
            base_model=BASE_MODEL,
            default_capture=Capture(),
            poll_s=0.25,
            telemetry=telemetry,
            on_swap=self._take,
        )
        self.heartbeat = Heartbeat(
            world.store.fleet,
            name,
            applied_generation=lambda: self.watcher.generation,
            in_flight=self.in_flight,
            telemetry=telemetry,
            on_alive=lambda _: None,
        )
        self.registrar = Registrar(_Client(world), self._attested, telemetry)  # type: ignore[arg-type]

    async def start(self) -> None:
        """Come up in the order in which the gateway's lifespan does."""
        await self.watcher.refresh()
        await self.beat()
        await self.watcher.refresh()

    async def beat(self) -> None:
        await self.heartbeat.beat()
        self.last_beat = self._world.now

    async def ask(self, model: str, *, wait: bool) -> None:
        """Begin a request; with `wait` it is not sent yet, as when every place is taken."""
        reading = self.watcher.overdue()
        if reading is not None:
            await reading
        self._world.hold(self.watcher.age_s() < OVERDUE_S, f"{self.id} serves from a table that is overdue")
        try:
            target = resolve(self.watcher.table, model, principal=WHO, request_id="r", subject=None)
        except TurnoutError:
            return
        asked = Asked(str(target.adapter))
        self.in_flight.enter(asked.label)
        self.asked.append(asked)
        if not wait:
            await self.send(asked)

    async def send(self, asked: Asked) -> None:
        """Send a request to an engine, mending a lost registration as the proxy does."""
        try:
            asked.place = await self.pool.lease(asked.label)
        except TurnoutError:
            self.finish(asked)
            return
        replica = asked.place.replica
        machine = self._world.machines[replica.id]
        status = await self._world.generate(self, machine, asked.label)
        if status == 404 and await self.registrar.mend(replica, asked.label):
            status = await self._world.generate(self, machine, asked.label)
        if status != 200:
            self.finish(asked)

    def finish(self, asked: Asked) -> None:
        """End a request, whatever came of it."""
        if asked.place is not None:
            asked.place.release()
        self.in_flight.leave(asked.label)
        self.asked.remove(asked)

    def _take(self, table: RoutingTable) -> None:
        origins = {replica: Origin.parse(url) for replica, url in table.replica_urls.items()}
        self.pool.update(origins, table.placement)

    def _attested(self, replica: str, label: str) -> Attested | None:
        table = self.watcher.table
        engine, digest = table.engines.get(replica), table.digests.get(label)
        if engine is None or engine.incarnation is None or digest is None:
            return None
        if replica not in table.placement.get(label, ()):
            return None
        return Attested(engine.incarnation, Blobs(self._world.registry).path(digest, None))


class _Client:
    """The gateway's HTTP client as far as the registrar uses it."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def get(self, origin: Origin, path: str) -> "_Response":
        return _Response(await self._machine(origin).call("GET", path))

    async def post(self, origin: Origin, path: str, body: bytes, **_headers: Any) -> "_Response":
        return _Response(await self._machine(origin).call("POST", path, body))

    def _machine(self, origin: Origin) -> Machine:
        return next(m for m in self._world.machines.values() if Origin.parse(m.url) == origin)


class _Response:
    def __init__(self, reply: MemoryReply) -> None:
        self.status = reply.status
        self._body = reply.body

    async def read_all(self, _limit: int) -> bytes:
        return self._body

    def close(self) -> None:
        """Nothing is open."""
