"""The controller's loop: take the lease, tend every replica, settle the routes; survive what fails."""

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from adapters.collect import RETENTION_S
from gateway.controller.blobs import Blobs
from gateway.controller.catalogue import Catalogue
from gateway.controller.clock import Clock
from gateway.controller.discovery import Discovery, Engines
from gateway.controller.drain import RollCall
from gateway.controller.engine_api import EngineApi
from gateway.controller.experimenter import Experimenter, ExperimenterConfig
from gateway.controller.keeper import Keeper, KeeperConfig
from gateway.controller.lease import Lease
from gateway.controller.looper import Looper, LooperConfig, Machine
from gateway.controller.placement import Slots
from gateway.controller.placer import Needs, Placer, Policy
from gateway.controller.planner import PlannerConfig
from gateway.controller.pruner import Pruner, PrunerConfig, prunables
from gateway.controller.routes import (
    FleetView,
    needed_versions,
    next_status,
    previous_versions,
    shadow_versions,
    why_active,
)
from gateway.controller.summing import Summing
from gateway.controller.upkeep import Upkeep
from gateway.core.refs import VersionRef
from gateway.core.steps import Moment
from gateway.store.control import ControlStore, Snapshot
from gateway.store.database import StoreUnavailable
from gateway.store.fleet import ReplicaRow
from gateway.store.lease import LeaseLost
from gateway.store.requests import Requests

log = logging.getLogger(__name__)

ACTOR = "controller"
LONGEST_PAUSE_S = 5.0
REPLICA_PAUSE_S = 10.0
STOP_TIMEOUT_S = 5.0
COLLECT_EVERY_S = 600.0


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """The pace of the loop. Times are seconds."""

    interval_s: float
    min_ready: int
    keeper: KeeperConfig
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    policy: Policy = "demand"
    experiments: ExperimenterConfig = field(default_factory=ExperimenterConfig)
    blob_retention_s: float = RETENTION_S
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    looper: LooperConfig = field(default_factory=LooperConfig)


class Controller:
    """One controller process. Everything it remembers belongs to one epoch and is dropped with it."""

    def __init__(
        self,
        store: ControlStore,
        *,
        http: httpx.AsyncClient,
        lease: Lease,
        blobs: Blobs,
        config: LoopConfig,
        discovery: Discovery | None = None,
        requests: Requests | None = None,
        machine: Machine | None = None,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self.failed_turns = 0
        self._store = store
        self._http = http
        self._lease = lease
        self._blobs = blobs
        self._config = config
        self._clock = clock
        self._roll = RollCall(clock=clock.monotonic)
        self._catalogue = Catalogue(store.versions)
        self.upkeep = self._new_upkeep(requests, machine)
        self._discovery = discovery or Discovery(store.fleet, Engines(()))
        self._placer = self._new_placer()
        self._epoch: int | None = None
        self._standing_by = False
        self._collecting: asyncio.Task[None] | None = None
        self._collect_at = clock.monotonic() + COLLECT_EVERY_S
        self._snapshot: Snapshot | None = None
        self._settled: Snapshot | None = None
        self._keepers: dict[str, Keeper] = {}
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._resting_until: dict[str, float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Take turns until `stop` is set, then give the lease back."""
        renewing = asyncio.create_task(self._lease.keep(), name="lease")
        in_a_row = 0
        try:
            while not stop.is_set():
                in_a_row = 0 if await self._survive_turn() else in_a_row + 1
                pause = self._config.interval_s * 2.0 ** min(in_a_row, 30)
                await self._placer.wait(stop, min(pause, max(self._config.interval_s, LONGEST_PAUSE_S)))
        finally:
            renewing.cancel()
            await self._forget_everything()
            await self.upkeep.close()
            await asyncio.gather(renewing, return_exceptions=True)
            self._give_back()

    async def _survive_turn(self) -> bool:
        """Take a turn; whether nothing failed that calls for a pause."""
        try:
            await self.turn(patience_s=self._config.interval_s)
        except LeaseLost:
            log.warning("the lease went to another controller; everything is dropped")
            await self._forget_everything()
        except StoreUnavailable as error:
            self.failed_turns += 1
            log.warning("the store is unavailable (failure %d): %s", self.failed_turns, error)
            return False
        except Exception:
            self.failed_turns += 1
            log.exception("a turn failed (failure %d)", self.failed_turns)
            return False
        return True

    async def turn(self, *, patience_s: float | None = None) -> bool:
        """Take one turn; whether this controller is the effective one.

        Replicas are tended side by side. After `patience_s` seconds the turn goes on without those that
        are still busy, so that a slow one holds up neither the others nor the routes; None waits for all.

        Raises:
            LeaseLost: another controller became effective meanwhile.
            StoreUnavailable: the store can't be reached.
        """
        epoch = await self._effective()
        if epoch is None:
            return False
        await self._discovery.update(epoch=epoch)
        self._start_tending(self._read(), epoch)
        if self._tending:
            await asyncio.wait(self._tending.values(), timeout=patience_s)
        self._collect()
        self._settle_routes(epoch)
        self.upkeep.start(self._read, epoch)
        self._start_collecting(epoch)
        return True

    async def _effective(self) -> int | None:
        epoch = self._lease.take()
        if epoch is None:
            if not self._standing_by:
                log.info("another controller is effective; standing by")
            await self._forget_everything()
            self._standing_by = True
            return None
        if epoch != self._epoch:
            await self._forget_everything()
            self._epoch, self._standing_by = epoch, False
            log.info("effective with epoch %d", epoch)
        return epoch

    def _read(self) -> Snapshot:
        if self._snapshot is None or self._store.generation() != self._snapshot.generation:
            self._snapshot = self._store.snapshot()
        return self._snapshot

    def _start_tending(self, snapshot: Snapshot, epoch: int) -> None:
        self._hire(snapshot.replicas, epoch)
        self._call_roll(epoch)
        placement = self._place(snapshot, epoch)
        now = self._clock.monotonic()
        for replica, keeper in self._keepers.items():
            if replica in self._tending or now < self._resting_until.get(replica, 0.0):
                continue
            rows = [row for row in snapshot.registrations if row.replica == replica]
            others = (other.healthy for name, other in self._keepers.items() if name != replica)
            refs = placement.get(replica, ())
            tend = keeper.tend(refs, rows, generation=snapshot.generation, spare=any(others))
            self._tending[replica] = asyncio.create_task(tend, name=f"tend {replica}")

    def _call_roll(self, epoch: int) -> None:
        """Hear the workers, and strike off those that have been silent for very long."""
        self._roll.hear(self._store.fleet.workers())
        silent = self._roll.silent()
        if silent:
            self._store.fleet.forget_silent(silent, epoch=epoch)

    def _hire(self, replicas: Iterable[ReplicaRow], epoch: int) -> None:
        """Have one keeper for each replica at its present address."""
        rows = {row.id: row for row in replicas}
        for replica, keeper in list(self._keepers.items()):
            row = rows.get(replica)
            if row is None or (row.url, row.adapter_root) != keeper.address:
                del self._keepers[replica]
                task = self._tending.pop(replica, None)
                if task is not None:
                    task.cancel()

        def permit() -> None:
            self._lease.check(epoch)

        for replica, row in rows.items():
            if replica not in self._keepers:
                self._keepers[replica] = Keeper(
                    row,
                    epoch=epoch,
                    api=EngineApi(self._http, row.url, permit=permit),
                    store=self._store,
                    catalogue=self._catalogue,
                    blobs=self._blobs.of(row.url, row.adapter_root, permit=permit),
                    roll=self._roll,
                    config=self._config.keeper,
                    clock=self._clock,
                )

    def _new_placer(self) -> Placer:
        keeper = self._config.keeper
        return Placer(
            self._store,
            planner=self._config.planner,
            slots=Slots(keeper.max_loras, keeper.max_cpu_loras),
            policy=self._config.policy,
            clock=self._clock,
        )

    def _new_upkeep(self, requests: Requests | None, machine: Machine | None) -> Upkeep:
        config, check, clock = self._config, self._lease.check, self._clock
        looper = None
        if machine is not None:
            left_s = self._lease.left_s
            looper = Looper(
                self._store, machine, check=check, left_s=left_s, config=config.looper, clock=clock
            )
        if requests is None:
            return Upkeep(looper=looper)
        return Upkeep(
            experimenter=Experimenter(
                self._store,
                requests,
                catalogue=self._catalogue,
                check=check,
                config=config.experiments,
                clock=clock,
            ),
            looper=looper,
            summing=Summing(requests.usage, longest_s=config.experiments.settled_s, clock=clock),
            pruner=Pruner(
                prunables(self._store.database, requests.database), config=config.pruner, clock=clock
            ),
        )

    def _place(self, snapshot: Snapshot, epoch: int) -> dict[str, tuple[VersionRef, ...]]:
        serving: set[VersionRef] = set()
        wanted: set[VersionRef] = set()
        before: set[VersionRef] = set()
        shadows: set[VersionRef] = set()
        for route in snapshot.routes:
            now, then = needed_versions(route)
            serving |= now  # also a retired one, until its route has moved on
            wanted |= then & snapshot.versions
            before |= previous_versions(route) & snapshot.versions
            shadows |= shadow_versions(route) & snapshot.versions
        self._catalogue.learn(snapshot.versions | serving)
        made = {ref: facts.created_at for ref in snapshot.versions if (facts := self._catalogue.get(ref))}
        made.update(dict.fromkeys(before & made.keys(), math.inf))  # a rollback should find them in place
        needs = Needs(frozenset(serving), frozenset(wanted), made, frozenset(shadows))
        return self._placer.place(snapshot, needs, leaving=self._discovery.leaving, epoch=epoch)

    def _collect(self) -> None:
        """Take the results of the keepers that are done.

        A lost lease or store is the whole loop's matter. Anything else is a fault in tending one replica:
        it is counted and logged, and that replica rests a while, alone.
        """
        done = {replica: task for replica, task in self._tending.items() if task.done()}
        general: BaseException | None = None
        for replica, task in done.items():
            del self._tending[replica]
            error = task.exception()
            if isinstance(error, LeaseLost):
                general = error
            elif isinstance(error, StoreUnavailable):
                general = general or error
            elif error is not None:
                self.failed_turns += 1
                self._resting_until[replica] = self._clock.monotonic() + REPLICA_PAUSE_S
                log.error("tending %s failed (failure %d)", replica, self.failed_turns, exc_info=error)
        if general is not None:
            raise general

    def _settle_routes(self, epoch: int) -> None:
        """Write the status that each route has now. What is decided from a snapshot is decided once."""
        snapshot = self._read()
        if snapshot is self._settled:
            return
        fleet = FleetView.of(snapshot.replicas, snapshot.registrations)
        moment = Moment(self._clock.wall(), snapshot.generation)
        for route in snapshot.routes:
            _, needs = needed_versions(route)
            absent = self._catalogue.absent(needs, snapshot.versions)
            status = next_status(route, fleet, absent=absent, min_ready=self._config.min_ready, moment=moment)
            if status == route.status:
                continue
            self._lease.check(epoch)
            if route.fault and route.fault not in (route.status.reason or ""):
                self._store.events.add(
                    actor=ACTOR, action="route.fault", subject=route.name, why=route.fault, epoch=epoch
                )
            self._store.routes.set_status(
                route.name,
                status,
                generation=route.generation,
                actor=ACTOR,
                why=why_active(status, fleet),
                epoch=epoch,
                instead_of=route.status,
            )
            if (status.state, status.reason) != (route.status.state, route.status.reason):
                log.info("route %s is %s%s", route.name, status.state, _because(status.reason))
        self._settled = snapshot

    def _start_collecting(self, epoch: int) -> None:
        """Have blobs of retired versions removed beside the turns: with many of them it takes seconds."""
        now = self._clock.monotonic()
        if now < self._collect_at or self._collecting is not None:
            return
        self._collect_at = now + COLLECT_EVERY_S
        self._collecting = asyncio.create_task(self._collect_blobs(epoch), name="blobs")
        self._collecting.add_done_callback(self._collected)

    async def _collect_blobs(self, epoch: int) -> None:
        retention_s = self._config.blob_retention_s
        forgotten = self._store.attestations.forget_unneeded(retired_for_s=retention_s, epoch=epoch)
        if forgotten:
            log.info("%d recorded answers of retired versions are forgotten", forgotten)
        removed = await self._blobs.collect(self._store.holds, retention_s=retention_s)
        if removed:
            log.info("%d blobs of retired versions are removed", len(removed))
            self._store.events.add(
                actor=ACTOR, action="blob.remove", subject="blobs", after={"removed": removed}, epoch=epoch
            )

    def _collected(self, task: asyncio.Task[None]) -> None:
        self._collecting = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failed_turns += 1
            log.warning("blobs of retired versions could not be removed: %s", error)

    async def _forget_everything(self) -> None:
        tasks: list[asyncio.Task[None]] = list(self._tending.values())
        if self._collecting is not None:
            tasks.append(self._collecting)
        await self.upkeep.stop()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # whatever it was, it ended with its epoch
        self._epoch = None
        self._snapshot = self._settled = None
        self._keepers.clear()
        self._tending.clear()
        self._resting_until.clear()
        self._placer = self._new_placer()

    def _give_back(self) -> None:
        try:
            self._lease.release()
        except StoreUnavailable as error:
            log.warning("the lease could not be given back and will run out: %s", error)


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
