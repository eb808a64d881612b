"""One replica's keeper: looks at the engine, then makes it hold what it should hold."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.controller.attestation.memory import FleetMemory
from gateway.controller.attestation.prober import IncarnationChanged, Prober
from gateway.controller.blobs import Blobs
from gateway.controller.catalogue import Catalogue
from gateway.controller.engine_api import (
    AlreadyLoaded,
    EngineApi,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    NotLoaded,
)
from gateway.controller.reconcile import (
    Action,
    Attest,
    Forget,
    Register,
    Unregister,
    Wanted,
    actions,
    attempts,
    drained,
)
from gateway.core.refs import VersionRef
from gateway.store.control import ControlStore
from gateway.store.fleet import RegistrationRow, RegistrationState, ReplicaRow

log = logging.getLogger(__name__)

FAILURES_UNTIL_UNHEALTHY = 2
REPORT_EVERY_S = 5.0
# Then the engine is looked at again, and a version that became urgent meanwhile goes first.
STEPS_PER_TURN = 4
MAX_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """What every keeper needs to know of the fleet. `quantization` is the engines' own word, or None."""

    base_model: str
    quantization: str | None
    attest_every_s: float
    max_loras: int
    max_cpu_loras: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What an engine said of itself: its incarnation and its adapters, name → path."""

    incarnation: str
    listed: dict[str, str]


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
        blobs: Blobs,
        config: KeeperConfig,
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
        self._store = store
        self._catalogue = catalogue
        self._blobs = blobs
        self._config = config
        self._failures = 0
        self._reported: tuple[Any, ...] | None = None
        self._reported_at = 0.0
        self._leftover_since: dict[str, tuple[int, float]] = {}

    async def tend(
        self, refs: Sequence[VersionRef], rows: Sequence[RegistrationRow], *, generation: int
    ) -> None:
        """Observe the replica and take a few steps towards holding `refs`.

        `rows` are this replica's registrations, read from the store at `generation` or later. An engine
        that fails to answer is a matter of this replica alone and raises nothing.

        Raises:
            LeaseLost: another controller is effective.
            StoreUnavailable: the store can't be written.
        """
        seen = await self._observe()
        if seen is None:
            return
        wanted = [
            Wanted(ref, facts.digest, self._blobs.path(facts.digest, self.address[1]))
            for ref in refs
            if (facts := self._catalogue.get(ref))
        ]
        present = {row.ref: row for row in rows if row.incarnation == seen.incarnation}
        plan = actions(
            wanted,
            present.values(),
            seen.listed,
            now=time.time(),
            attest_every_s=self._config.attest_every_s,
        )
        clearing = {action.name for action in plan if isinstance(action, Unregister)}
        self._leftover_since = {
            name: self._leftover_since.get(name, (generation, time.time())) for name in clearing
        }
        try:
            await self._take_steps(plan, present, seen)
        except EngineUnreachable as error:
            log.warning("%s: %s", self.id, error)
        except IncarnationChanged as error:
            log.info("%s: %s", self.id, error)

    async def _observe(self) -> Observation | None:
        """Ask the engine how it is and record it; None when it can't be worked with now."""
        try:
            await self._api.health()
            seen = Observation(await self._api.incarnation(), await self._api.adapters())
        except EngineError as error:
            self._failures += 1
            if self._failures >= FAILURES_UNTIL_UNHEALTHY or not self._healthy:
                self._report(healthy=False, incarnation=None, reason=_short(str(error)), capacity=None)
            return None
        self._failures = 0
        capacity = {
            "max_loras": self._config.max_loras,
            "max_cpu_loras": self._config.max_cpu_loras,
            "registered": sorted(seen.listed),
        }
        self._report(healthy=True, incarnation=seen.incarnation, reason=None, capacity=capacity)
        return seen

    def _report(
        self, *, healthy: bool, incarnation: str | None, reason: str | None, capacity: dict[str, Any] | None
    ) -> None:
        now = time.monotonic()
        report = (healthy, incarnation, reason, capacity)
        if report == self._reported and (not healthy or now - self._reported_at < REPORT_EVERY_S):
            return
        self._store.fleet.observe(
            self.id,
            epoch=self._epoch,
            healthy=healthy,
            incarnation=incarnation,
            reason=reason,
            capacity=capacity,
        )
        self._reported, self._reported_at = report, now
        if incarnation is not None and incarnation != self._incarnation:
            log.info("%s: engine incarnation %s, before %s", self.id, incarnation, self._incarnation)
            self._incarnation = incarnation
        if healthy != self._healthy:
            if healthy:
                log.info("%s is healthy", self.id)
            else:
                log.warning("%s is unhealthy: %s", self.id, reason)
            self._healthy = healthy

    async def _take_steps(
        self, plan: list[Action], rows: dict[VersionRef, RegistrationRow], seen: Observation
    ) -> None:
        steps = 0
        for action in plan:
            if steps >= STEPS_PER_TURN:
                return
            if isinstance(action, Forget):
                self._store.fleet.remove_registration(self.id, action.ref, epoch=self._epoch)
                log.info("%s: %s takes no more traffic here", self.id, action.ref)
            elif isinstance(action, Unregister):
                await self._unregister(action.name)
            else:
                steps += 1
                await self._bring(action, rows.get(action.wanted.ref), seen)

    async def _unregister(self, name: str) -> None:
        generation, since = self._leftover_since[name]
        workers = self._store.fleet.workers()
        if not drained(name, workers, since_generation=generation, since=since, now=time.time()):
            return
        try:
            await self._unload(name)
        except EngineRefused as error:
            log.warning("%s: %s could not be unregistered: %s", self.id, name, error)
        else:
            log.info("%s: %s is unregistered", self.id, name)

    async def _bring(self, action: Register | Attest, row: RegistrationRow | None, seen: Observation) -> None:
        """Register where needed, attest, and record how it went."""
        wanted = action.wanted
        try:
            # Before any call: an engine that re-reads a damaged blob answers wrongly, or dies.
            fault = await self._blobs.fault(wanted.digest)
            if fault is not None:
                self._failed(wanted, row, seen, fault)
                return
            if isinstance(action, Register):
                await self._register(wanted, action.listed_path, afresh=action.retry)
                if not action.retry:  # a failed version stays failed until it is proved
                    self._record(wanted, seen, "registered")
                    log.info("%s: %s is registered", self.id, wanted.ref)
            subject = self._catalogue.subject(wanted.ref, wanted.digest)
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
        self._record(wanted, seen, "attested", figures=proof.figures())
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

    def _record(
        self,
        wanted: Wanted,
        seen: Observation,
        state: RegistrationState,
        *,
        figures: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        row = RegistrationRow(
            replica=self.id,
            ref=wanted.ref,
            incarnation=seen.incarnation,
            digest=wanted.digest,
            state=state,
            figures=figures,
            reason=reason,
            at=time.time(),
        )
        self._store.fleet.set_registration(row, epoch=self._epoch)

    def _failed(
        self,
        wanted: Wanted,
        before: RegistrationRow | None,
        seen: Observation,
        reason: str,
        *,
        figures: dict[str, Any] | None = None,
    ) -> None:
        """Record a failure; an event and a log line only when it is news."""
        short = _short(reason)
        counted = {**(figures or {}), "attempts": attempts(before) + 1}
        self._record(wanted, seen, "failed", figures=counted, reason=short)
        if before is not None and (before.state, before.reason) == ("failed", short):
            return
        log.warning("%s: %s failed: %s %s", self.id, wanted.ref, short, figures or "")
        self._store.events.add(
            actor="controller", action="adapter.failed", subject=str(wanted.ref), why=f"{self.id}: {short}"
        )


def _short(text: str) -> str:
    return text.splitlines()[0][:MAX_REASON_CHARS] if text else "no reason given"
