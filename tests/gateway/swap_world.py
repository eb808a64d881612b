"""A small world in which the real controller, store, tables and heartbeats run against fake engines.

Nothing here opens a socket and no time passes by itself: `World.now` is every clock. Controllers reach the
engines through a transport that can freeze them after an answer, as SIGSTOP would between two calls. The
engines are `FakeEngine`s, which re-read evicted adapters from disk and die when the files are gone. What must
never happen is checked where it would happen: at the engine, at a flip, and after blobs were removed.
"""

import asyncio
import json
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx

from adapters import collect as collect_module
from adapters.collect import collect
from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway.controller.blobs import Blobs
from gateway.controller.clock import Clock
from gateway.controller.drain import DEADLINE_S, QUIET_S
from gateway.controller.keeper import KeeperConfig
from gateway.controller.lease import Lease
from gateway.controller.loop import Controller, LoopConfig
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec
from gateway.replicas import heartbeat as heartbeat_module
from gateway.routing import watcher as watcher_module
from gateway.routing.watcher import OVERDUE_S
from gateway.store import clock as clock_module
from gateway.store import versions as versions_module
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.lease import LeaseLost
from gateway.store.uses import VersionInUse
from tests.adapters.folders import make_adapter
from tests.fake_engine import BASE_MODEL
from tests.fake_engine_weights import first_logprobs, read_weights
from tests.gateway.swap_parts import Machine, Process, Wire, Worker

LEASE_S = 5.0
SLOTS = 2
PROMPT = "hello"


@dataclass
class Ghost:
    """What the world remembers beside the code under test, to judge it by. Keys hold the incarnation."""

    attested: set[tuple[str, str, str]] = field(default_factory=set)
    forgotten_at: dict[tuple[str, str], float] = field(default_factory=dict)
    excused: set[tuple[str, str, str]] = field(default_factory=set)


class World:
    """Everything, and the checks. `run` runs a coroutine of the world."""

    def __init__(self, folder: Path, template: Path, *, machines: int = 2, workers: int = 2) -> None:
        self.now = time.time()
        self.broken: list[str] = []
        self.ghost = Ghost()
        self._loop = asyncio.new_event_loop()
        self._patches = ExitStack()
        turned = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        for module in (watcher_module, heartbeat_module, clock_module, versions_module, collect_module):
            self._patches.enter_context(mock.patch.object(module, "time", turned))
        self._folder = folder
        shutil.copyfile(template, folder / "control.db")
        self._database = Database(f"sqlite:///{folder / 'control.db'}", "control", durable=False)
        self.store = ControlStore(self._database)
        self.registry = Registry(
            folder / "adapters", self.store.versions, base=BaseIdentity(name=BASE_MODEL), max_rank=16
        )
        self.machines = {f"engine-{i}": Machine(f"engine-{i}") for i in range(machines)}
        self.store.fleet.set_replicas({m.id: (m.url, None) for m in self.machines.values()})
        self._watch_store()
        self._seeds = 0
        self._names = 0
        self.workers: list[Worker] = []
        self.processes: list[Process] = []
        self._clients: list[httpx.AsyncClient] = []
        for _ in range(workers):
            self.start_worker()
        for _ in range(2):
            self.start_controller()

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        for process in self.processes:
            self._end(process)
        for client in self._clients:
            self.run(client.aclose())
        self.run(self._loop.shutdown_default_executor())
        self._loop.close()
        self._database.close()
        self._patches.close()

    # --- what people do ---------------------------------------------------------------------------------

    def add(self, name: str) -> VersionRef:
        self._seeds += 1
        folder = make_adapter(self._folder / f"source-{self._seeds}", seed=self._seeds)
        return self.registry.add(name, folder, actor="model")[0].ref

    def point(self, route: str, ref: VersionRef) -> None:
        self.store.routes.put(route, RouteSpec(arms=(Arm(adapter=str(ref), share=1),)), actor="model")

    def retire(self, ref: VersionRef) -> None:
        with suppress(VersionInUse):
            self.store.versions.retire(ref, actor="model", unused_only=True)

    def collect(self) -> None:
        """Remove blobs as eagerly as can be, and look that no engine misses one."""
        collect(self.registry.root, self.store.holds, retention_s=0.0, dry_run=False)
        self.check_blobs()

    # --- workers and controllers come and go ---------------------------------------------------------------

    def start_worker(self) -> None:
        self._names += 1
        worker = Worker(self, f"worker-{self._names}")
        self.run(worker.start())
        self.workers.append(worker)

    def start_controller(self) -> None:
        self._names += 1
        holder = f"controller-{self._names}"
        wire = Wire(self, holder)
        client = httpx.AsyncClient(transport=wire)
        self._clients.append(client)
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)
        controller = Controller(
            self.store,
            http=client,
            lease=Lease(self.store.fleet, holder=holder, ttl_s=LEASE_S, clock=lambda: self.now),
            blobs=Blobs(self.registry),
            config=LoopConfig(
                interval_s=0.5,
                min_ready=1,
                keeper=KeeperConfig(
                    base_model=BASE_MODEL,
                    quantization=None,
                    attest_every_s=600.0,
                    max_loras=1,
                    max_cpu_loras=SLOTS,
                ),
            ),
            clock=clock,
        )
        self.processes.append(Process(holder, controller, wire))

    def turn(self, process: Process) -> None:
        """Let a controller take a turn, unless it is frozen."""
        if process.turn is None:
            self.run(self._survive(process, process.controller.turn()))

    def freeze(self, process: Process, after: int) -> None:
        """Let a controller begin a turn and stand still after so many answers of engines."""
        if process.turn is not None:
            return
        process.transport.freeze_after = after
        process.transport.thawed.clear()
        process.turn = self._loop.create_task(process.controller.turn())

        async def until_frozen() -> None:
            while not (process.turn is None or process.turn.done()):
                if (process.transport.freeze_after or 0) <= 0:
                    return
                await asyncio.sleep(0)

        self.run(until_frozen())

    def thaw(self, process: Process) -> None:
        """Let a frozen controller go on to the end of its turn."""
        if process.turn is not None:
            process.transport.freeze_after = None
            process.transport.thawed.set()
            turn, process.turn = process.turn, None
            self.run(self._survive(process, turn))

    def kill_controller(self, process: Process) -> None:
        self._end(process)
        self.processes.remove(process)
        self.start_controller()

    async def _survive(self, process: Process, turn: Any) -> None:
        try:
            await turn
        except LeaseLost:
            await process.controller._forget_everything()

    def _end(self, process: Process) -> None:
        async def end() -> None:
            if process.turn is not None:
                process.turn.cancel()
                await asyncio.gather(process.turn, return_exceptions=True)
            process.transport.thawed.set()
            process.transport.freeze_after = None
            for task in process.controller._tending.values():
                task.cancel()
            await asyncio.gather(*process.controller._tending.values(), return_exceptions=True)

        self.run(end())

    # --- what must hold --------------------------------------------------------------------------------

    def hold(self, holds: bool, what: str) -> None:
        """Note what does not hold. A controller survives exceptions in its keepers: none is raised here."""
        if not holds:
            self.broken.append(what)

    def check_call(self, holder: str, machine: Machine, request: httpx.Request) -> None:
        """At a controller's call to an engine: it is the effective one, and nobody uses what it unloads."""
        held = self.store.fleet.controller()
        self.hold(held is not None and held[0] == holder, f"{holder} calls an engine, not {held}")
        self.hold(held is not None and held[2] > self.now, f"{holder} calls an engine after its term")
        if request.url.path.endswith("/unload_lora_adapter"):
            self._check_unload(machine, json.loads(request.content)["lora_name"])

    def _check_unload(self, machine: Machine, label: str) -> None:
        """Nobody has a request of it on this engine, or may still send one, unless the deadline is over."""
        late = self.now - self.ghost.forgotten_at.get((machine.id, label), self.now) >= DEADLINE_S
        for worker in self.workers:
            placed = worker.watcher.table.placement.get(label, ())
            mine = [
                asked
                for asked in worker.asked
                if asked.label == label
                and (machine.id in placed if asked.place is None else asked.place.replica.id == machine.id)
            ]
            known = self._known_there(worker, machine)
            may_send = known and machine.id in placed
            if not (mine or may_send):
                continue
            silent = self.now - worker.last_beat >= DEADLINE_S
            self.hold(
                late or silent or not known,
                f"{label} is unloaded from {machine.id} while {worker.id} has {len(mine)} requests of it"
                f" and {'may send' if may_send else 'sends no'} more",
            )
            self.ghost.excused.add((machine.id, machine.engine.incarnation, label))

    def _stood_still(self, worker: Worker) -> bool:
        """Whether it was silent for longer than a restarted engine waits, and has read nothing since."""
        return self.now - worker.last_beat >= QUIET_S and worker.watcher.age_s() >= OVERDUE_S

    def _known_there(self, worker: Worker, machine: Machine) -> bool:
        """Whether the worker's table speaks of the machine's present incarnation."""
        facts = worker.watcher.table.engines.get(machine.id)
        return facts is not None and facts.incarnation == machine.engine.incarnation

    async def generate(self, worker: Worker, machine: Machine, label: str) -> int:
        """A worker's request at an engine: the version is proved and registered there, and answers itself."""
        body = {"model": label, "prompt": PROMPT, "max_tokens": 1, "logprobs": 1}
        reply = await machine.call("POST", "/v1/completions", json.dumps(body).encode())
        key = (machine.id, machine.engine.incarnation, label)
        if reply.status == 404:
            assert key in self.ghost.excused or not self._known_there(worker, machine), (
                f"{worker.id} asks {machine.id} for {label}, which is not registered there"
            )
        if reply.status == 200:
            assert key in self.ghost.attested or self._stood_still(worker), (
                f"{label} is unproved on {machine.id}"
            )
            row = self.store.versions.get(VersionRef.parse(label) or VersionRef("none", 1))
            assert row is not None
            token = json.loads(reply.body)["choices"][0]["logprobs"]["tokens"][0]
            source = self._weights(label)
            assert token == next(iter(first_logprobs(source, PROMPT, 1))), "other weights answered"
        return reply.status

    def _weights(self, label: str) -> bytes:
        row = self.store.versions.get(VersionRef.parse(label) or VersionRef("none", 1))
        assert row is not None
        return read_weights(Path(str(row.manifest["source"])))

    def check_blobs(self) -> None:
        """No blob is gone that a living engine may read."""
        for machine in self.machines.values():
            for path in machine.loaded if machine.up else ():
                assert Path(path).is_dir(), f"{machine.id} may read {path}, which is gone"
            assert not machine.engine.dead, f"{machine.id} died of a blob that was gone"

    def _watch_store(self) -> None:
        fleet, routes = self.store.fleet, self.store.routes
        set_registration, remove, set_status = (
            fleet.set_registration,
            fleet.remove_registration,
            routes.set_status,
        )

        def registered(row: Any, *, epoch: int) -> None:
            set_registration(row, epoch=epoch)
            if row.state == "attested":
                self.ghost.attested.add((row.replica, row.incarnation, str(row.ref)))

        def removed(replica: str, ref: VersionRef, *, epoch: int) -> None:
            remove(replica, ref, epoch=epoch)
            self.ghost.forgotten_at[(replica, str(ref))] = self.now

        def flipped(name: str, status: Any, **options: Any) -> bool:
            before = routes.get(name)
            done = set_status(name, status, **options)
            if done and before is not None and before.status.effective_arms != status.effective_arms:
                for arm in status.effective_arms:
                    self.hold(
                        self._stands(arm.adapter), f"{name} points at {arm.adapter}, which stands nowhere"
                    )
            return done

        self._patches.enter_context(mock.patch.object(fleet, "set_registration", registered))
        self._patches.enter_context(mock.patch.object(fleet, "remove_registration", removed))
        self._patches.enter_context(mock.patch.object(routes, "set_status", flipped))

    def _stands(self, label: str) -> bool:
        incarnations = {row.id: row.incarnation for row in self.store.fleet.replicas() if row.healthy}
        return any(
            str(row.ref) == label
            and row.state == "attested"
            and incarnations.get(row.replica) == row.incarnation
            for row in self.store.fleet.registrations()
        )
