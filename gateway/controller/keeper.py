"""One replica's keeper: looks at the engine, then makes it hold what it should hold."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.controller.agents import BlobUnderWay
from gateway.controller.attestation.asking import IncarnationChanged
from gateway.controller.attestation.memory import FleetMemory, Wishes
from gateway.controller.attestation.prober import Prober
from gateway.controller.blobs import ReplicaBlobs
from gateway.controller.catalogue import Catalogue
from gateway.controller.clock import Clock
from gateway.controller.drain import OldTables, RollCall, Since, still
from gateway.controller.engine_api import (
    AlreadyLoaded,
    EngineApi,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    NotLoaded,
)
from gateway.controller.observed import Observation, short
from gateway.controller.quarantine import Record
from gateway.controller.reconcile import (
    Action,
    Attest,
    Forget,
    Register,
    Unregister,
    Wanted,
    actions,
    attempts,
)
from gateway.core.refs import VersionRef
from gateway.store.control import ControlStore
from gateway.store.fleet import RegistrationRow, RegistrationState, ReplicaRow

log = logging.getLogger(__name__)

ACTOR = "controller"
FAILURES_UNTIL_UNHEALTHY = 2
REPORT_EVERY_S = 5.0
# Then the engine is looked at again, and a version that became urgent meanwhile goes first.
STEPS_PER_TURN = 4


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """What every keeper needs to know of the fleet. `quantization` is the engines' own word, or None."""

    base_model: str
    quantization: str | None
    attest_every_s: float
    max_loras: int
    max_cpu_loras: int


class Keeper:
    """Keeps one replica under one epoch of the controller's lease.

    `api` checks the lease before every call, and every write carries the epoch, so a keeper whose epoch
    is over does no harm: its next step raises LeaseLost.
    """

    def __init__(
        self,
        replica: ReplicaRow,
        *,
        epoch: int,
        api: EngineApi,
        store: ControlStore,
        catalogue: Catalogue,
        blobs: ReplicaBlobs,
        roll: RollCall,
        config: KeeperConfig,
        clock: Clock,
    ) -> None:
        self.id = replica.id
        self.address = (replica.url, replica.adapter_root)
        self._healthy = replica.healthy
        self._incarnation = replica.incarnation
        self._epoch = epoch
        self._api = api
        memory = FleetMemory(
            store.attestations,
            replica=replica.id,
            epoch=epoch,
            base_model=config.base_model,
            quantization=config.quantization,
        )
        self._prober = Prober(api, memory, base_model=config.base_model, quantization=config.quantization)
        self._wishes = Wishes(store.attestations)
        self._store = store
        self._catalogue = catalogue
        self._blobs = blobs
        self._roll = roll
        self._old_tables = OldTables(roll, store, before=replica.incarnation, clock=clock.monotonic)
        self._config = config
        self._clock = clock
        self._record = Record.read(replica.quarantine)
        self._failures = 0
        self._reported: tuple[Any, ...] | None = None
        self._reported_at = 0.0
        self._unwanted: dict[VersionRef, Since] = {}
        self._leftover: dict[str, Since] = {}
        self._waiting: set[VersionRef] = set()

    @property
    def healthy(self) -> bool:
        """Whether the replica gets traffic."""
        return self._healthy

    async def tend(
        self, refs: Sequence[VersionRef], rows: Sequence[RegistrationRow], *, generation: int, spare: bool
    ) -> None:
        """Observe the replica and take a few steps towards holding `refs`.

        `rows` are this replica's registrations, read from the store at `generation` or later. `spare`:
        others can do its work, so that it may be put in quarantine. An engine that fails to answer is a
        matter of this replica alone and raises nothing.

        Raises:
            LeaseLost: another controller is effective.
            StoreUnavailable: the store can't be written.
        """
        seen = await self._observe(spare=spare)
        if seen is None:
            return
        asked = self._wishes.read(generation)
        wanted = [
            Wanted(ref, facts.digest, self._blobs.path(facts.digest), asked.get(ref, 0))
            for ref in refs
            if (facts := self._catalogue.get(ref))
        ]
        present = {row.ref: row for row in rows if row.incarnation == seen.incarnation}
        await self._take_out_damaged(wanted, present, seen)
        plan = actions(
            wanted,
            present.values(),
            seen.listed,
            now=self._clock.wall(),
            attest_every_s=self._config.attest_every_s,
        )
        if not self._old_tables.gone(seen.incarnation):
            plan = [action for action in plan if not isinstance(action, Register)]
        now = self._clock.monotonic()
        unwanted = [action.ref for action in plan if isinstance(action, Forget)]
        leftover = [action.name for action in plan if isinstance(action, Unregister)]
        self._unwanted = still(self._unwanted, unwanted, generation=generation, now=now)
        self._leftover = still(self._leftover, leftover, generation=generation, now=now)
        try:
            await self._take_steps(plan, present, seen)
        except EngineUnreachable as error:
            log.warning("%s: %s", self.id, error)
        except IncarnationChanged as error:
            log.info("%s: %s", self.id, error)

    async def _observe(self, *, spare: bool) -> Observation | None:
        """Ask the engine how it is and record it; None when it can't be worked with now."""
        try:
            await self._api.health()
            who = await self._api.identity()
            seen = Observation(who.incarnation, await self._api.adapters(), who.caches_prefixes)
        except EngineError as error:
            self._failures += 1
            if self._failures >= FAILURES_UNTIL_UNHEALTHY or not self._healthy:
                self._report(healthy=False, incarnation=None, reason=short(str(error)), capacity=None)
            return None
        self._failures = 0
        left_s = self._sentence(seen.incarnation, spare=spare)
        capacity = {
            "max_loras": self._config.max_loras,
            "max_cpu_loras": self._config.max_cpu_loras,
            "prefix_caching": seen.caches_prefixes,
            "registered": sorted(seen.listed),
        }
        reason = f"in quarantine: {self._record.strikes} failures in a row" if left_s else None
        self._report(healthy=not left_s, incarnation=seen.incarnation, reason=reason, capacity=capacity)
        return seen

    def _sentence(self, incarnation: str, *, spare: bool) -> float:
        """Count a failure that the engine has come back from; return the seconds of quarantine that are left.

        Nobody is better off when the last replica that works is in quarantine.
        """
        now = self._clock.wall()
        came_back = self._incarnation is not None and (
            incarnation != self._incarnation or not (self._healthy or self._record.until)
        )
        if came_back:
            self._record = self._record.struck(now)
            if self._record.until and not spare:
                self._record = self._record.released(now)
            elif self._record.until:
                self._tell("replica.quarantined", f"{self._record.strikes} failures in a row")
        left_s = self._record.left_s(now) if spare else 0.0
        if self._record.until and not left_s:
            self._record = self._record.released(now)
            self._tell("replica.released", "its quarantine is over" if spare else "no other replica works")
        return left_s

    def _tell(self, action: str, why: str) -> None:
        log.warning("%s: %s: %s", self.id, action, why)
        self._store.events.add(
            actor=ACTOR,
            action=action,
            subject=self.id,
            why=why,
            after=self._record.stored(),
            epoch=self._epoch,
        )

    def _report(
        self, *, healthy: bool, incarnation: str | None, reason: str | None, capacity: dict[str, Any] | None
    ) -> None:
        now = self._clock.monotonic()
        report = (healthy, incarnation, reason, capacity, self._record)
        if report == self._reported and (not healthy or now - self._reported_at < REPORT_EVERY_S):
            return
        self._store.fleet.observe(
            self.id,
            epoch=self._epoch,
            healthy=healthy,
            incarnation=incarnation,
            reason=reason,
            capacity=capacity,
            quarantine=self._record.stored(),
        )
        self._reported, self._reported_at = report, now
        if incarnation is not None and incarnation != self._incarnation:
            log.info("%s: engine incarnation %s, before %s", self.id, incarnation, self._incarnation)
            self._incarnation = incarnation
        if healthy and not self._healthy:
            log.info("%s is healthy", self.id)
        elif self._healthy and not healthy:
            log.warning("%s is unhealthy: %s", self.id, reason)
        self._healthy = healthy

    async def _take_out_damaged(
        self, wanted: Sequence[Wanted], rows: dict[VersionRef, RegistrationRow], seen: Observation
    ) -> None:
        """Take traffic off versions whose files have changed: the engine may read them again at any time."""
        unknown = 0
        for each in wanted:
            row = rows.get(each.ref)
            touched = self._blobs.touched(each.digest)
            if row is None or row.state != "attested" or touched is False:
                continue
            unknown += touched is None  # what an earlier controller has verified, this one has not
            if touched is None and unknown > STEPS_PER_TURN:
                continue
            fault = await self._blobs.fault(each.digest, seen.incarnation)
            if fault is not None:
                rows[each.ref] = self._failed(each, row, seen, fault)

    async def _take_steps(
        self, plan: list[Action], rows: dict[VersionRef, RegistrationRow], seen: Observation
    ) -> None:
        steps = 0
        for action in plan:
            if steps >= STEPS_PER_TURN:
                return
            if isinstance(action, Forget):
                self._forget(action.ref, serves=rows[action.ref].state == "attested")
            elif isinstance(action, Unregister):
                await self._unregister(action.name)
            else:
                try:
                    await self._bring(action, rows.get(action.wanted.ref), seen)
                except BlobUnderWay as waiting:  # it holds up nothing else, and takes no traffic away
                    if action.wanted.ref not in self._waiting:
                        log.info("%s: %s waits: %s", self.id, action.wanted.ref, waiting)
                    self._waiting.add(action.wanted.ref)
                else:
                    steps += 1
                    self._waiting.discard(action.wanted.ref)

    def _forget(self, ref: VersionRef, *, serves: bool) -> None:
        """Take the row away, of a version that serves only when nobody waits for it any more."""
        if serves and not self._released(str(ref), self._unwanted[ref]):
            return
        self._store.fleet.remove_registration(self.id, ref, epoch=self._epoch)
        log.info("%s: %s takes no more traffic here", self.id, ref)

    async def _unregister(self, name: str) -> None:
        if not self._released(name, self._leftover[name]):
            return
        try:
            await self._unload(name)
        except EngineRefused as error:
            log.warning("%s: %s could not be unregistered: %s", self.id, name, error)
        else:
            log.info("%s: %s is unregistered", self.id, name)

    def _released(self, name: str, since: Since) -> bool:
        self._roll.hear(self._store.fleet.workers())
        return self._roll.released(name, since)

    async def _bring(self, action: Register | Attest, row: RegistrationRow | None, seen: Observation) -> None:
        """Register where needed, attest, and record how it went."""
        wanted = action.wanted
        try:
            # Before any call: an engine that re-reads a damaged blob answers wrongly, or dies.
            fault = await self._blobs.fault(wanted.digest, seen.incarnation)
            if fault is not None:
                self._failed(wanted, row, seen, fault)
                return
            if isinstance(action, Register):
                # Before the load, so that a crash in between leaves no engine with a blob nobody keeps.
                self._store.holds.take(self.id, seen.incarnation, wanted.digest, epoch=self._epoch)
                await self._register(wanted, action.listed_path, afresh=action.retry)
                if not action.retry:  # a failed version stays failed until it is proved
                    self._write(wanted, seen, "registered")
                    log.info("%s: %s is registered", self.id, wanted.ref)
            verified = self._blobs.verified
            subject = self._catalogue.subject(wanted.ref, wanted.digest, digest_verified=verified)
            proof = await self._prober.prove(subject, incarnation=seen.incarnation)
        except EngineRefused as error:
            what = "load it" if isinstance(action, Register) else "answer the probes"
            message = error.message.replace(wanted.path, "its folder")
            self._failed(wanted, row, seen, f"the engine refused to {what} ({error.status}): {message}")
            return
        except ValueError as error:
            self._failed(wanted, row, seen, f"its reference can't be read: {error}")
            return
        if proof.fault is not None:
            self._failed(wanted, row, seen, proof.fault, figures=proof.figures())
            return
        self._write(wanted, seen, "attested", figures={**proof.figures(), "asked": wanted.asked})
        if row is None or row.state != "attested":
            log.info("%s: %s is attested: %s", self.id, wanted.ref, proof.figures())

    async def _register(self, wanted: Wanted, listed_path: str | None, *, afresh: bool) -> None:
        name = str(wanted.ref)
        if listed_path == wanted.path and not afresh:
            return
        if listed_path is not None:
            await self._unload(name)
        try:
            await self._api.load(name, wanted.path)
        except AlreadyLoaded:
            if (await self._api.adapters()).get(name) != wanted.path:
                await self._unload(name)
                await self._api.load(name, wanted.path)

    async def _unload(self, name: str) -> None:
        try:
            await self._api.unload(name)
        except NotLoaded:
            log.info("%s: %s was not loaded any more", self.id, name)

    def _write(
        self,
        wanted: Wanted,
        seen: Observation,
        state: RegistrationState,
        *,
        figures: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> RegistrationRow:
        row = RegistrationRow(
            replica=self.id,
            ref=wanted.ref,
            incarnation=seen.incarnation,
            digest=wanted.digest,
            state=state,
            figures=figures,
            reason=reason,
            at=self._clock.wall(),
        )
        self._store.fleet.set_registration(row, epoch=self._epoch)
        return row

    def _failed(
        self,
        wanted: Wanted,
        before: RegistrationRow | None,
        seen: Observation,
        reason: str,
        *,
        figures: dict[str, Any] | None = None,
    ) -> RegistrationRow:
        """Record a failure; an event and a log line only when it is news."""
        said = short(reason)
        counted = {**(figures or {}), "attempts": attempts(before) + 1, "asked": wanted.asked}
        row = self._write(wanted, seen, "failed", figures=counted, reason=said)
        if before is not None and (before.state, before.reason) == ("failed", said):
            return row
        log.warning("%s: %s failed: %s %s", self.id, wanted.ref, said, figures or "")
        self._store.events.add(
            actor=ACTOR,
            action="adapter.failed",
            subject=str(wanted.ref),
            why=f"{self.id}: {said}",
            epoch=self._epoch,
        )
        return row
