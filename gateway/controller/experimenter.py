"""Looks at experiments beside the controller's turns: stores what they say, and moves their canaries.

What is found depends on the stores alone, so a controller that was killed at any moment is followed by one
that finds the same. A look takes place in a thread, and the next one only when it is a small part of the time
since: however large an experiment is, looking at it never takes the controller from its other work.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.controller.canary import decide
from gateway.controller.catalogue import Catalogue
from gateway.controller.clock import Clock
from gateway.core.refs import VersionRef
from gateway.core.routes import Route, RouteStatus, shares_of
from gateway.core.steps import Moment
from gateway.experiments.choice import experiment_of
from gateway.experiments.document import document, settled_of
from gateway.experiments.experiment import Experiment
from gateway.experiments.findings import SETTLED_S, Findings, examine
from gateway.experiments.ledger import Ledger
from gateway.store.control import ControlStore, Snapshot
from gateway.store.database import StoreUnavailable
from gateway.store.epochs import EpochRow
from gateway.store.evidence import read_evidence
from gateway.store.lease import LeaseLost
from gateway.store.requests import Requests

log = logging.getLogger(__name__)

ACTOR = "controller"
PACE = 10.0
"""A look that took so long is followed by a pause this many times as long."""

FAILED_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class ExperimenterConfig:
    """How often canaries and other experiments are looked at, in seconds.

    `settle_s`: requests that ended later than so long ago may not be in the store yet, and wait for the next.
    `settled_s`: no request takes longer.
    """

    canary_every_s: float = 2.0
    every_s: float = 30.0
    settle_s: float = 1.0
    settled_s: float = SETTLED_S


class Experimenter:
    """The looks of one controller. `check` raises LeaseLost unless an epoch's term is running."""

    def __init__(
        self,
        store: ControlStore,
        requests: Requests,
        *,
        catalogue: Catalogue,
        check: Callable[[int], None],
        config: ExperimenterConfig = ExperimenterConfig(),
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self.failed_looks = 0
        self._store = store
        self._requests = requests
        self._catalogue = catalogue
        self._check = check
        self._config = config
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._due: dict[str, float] = {}
        self._ledgers: dict[str, tuple[object, Ledger]] = {}

    def start(self, snapshot: Snapshot, epoch: int) -> None:
        """Begin to look at what is due, unless the last looks are still under way."""
        if self._looking is not None:
            return
        now = self._clock.monotonic()
        running = [route for route in snapshot.routes if _compares(route)]
        due = [route for route in running if now >= self._due.get(route.name, 0.0)]
        self._due = {route.name: self._due.get(route.name, 0.0) for route in running}
        self._ledgers = {name: kept for name, kept in self._ledgers.items() if name in self._due}
        if due:
            self._looking = asyncio.create_task(self._look_at_all(due, epoch), name="experiments")
            self._looking.add_done_callback(self._done)

    async def stop(self) -> None:
        """End what is under way and forget when anything is due."""
        task = self._looking
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        self._due.clear()
        self._ledgers = {}

    async def look(self, route: Route, epoch: int) -> None:
        """Look at one route once: store what is found, and move its canary when that is called for.

        Raises:
            LeaseLost: another controller is effective.
            StoreUnavailable: a store can't be reached.
        """
        rows = self._store.epochs.rows(route.name)
        epochs = {row.from_generation: row.arms for row in rows}
        salts = {row.from_generation: row.salt for row in rows}
        experiment = experiment_of(route, epochs, digests=self._digests(route), salts=salts)
        if experiment is None:
            return
        until = self._clock.wall() - self._config.settle_s
        findings, sampled = await asyncio.to_thread(self._examine, experiment, rows, until)
        self._check(epoch)
        self._store.findings.put(route.name, document(findings, sampled=sampled), epoch=epoch)
        status = decide(route, findings, Moment(self._clock.wall(), self._store.generation()))
        if status != route.status:
            self._move(route, status, epoch)

    def _examine(
        self, experiment: Experiment, epochs: list[EpochRow], until: float
    ) -> tuple[Findings, float]:
        evidence = read_evidence(self._requests, self._store.feedback, experiment, epochs)
        last = self._store.findings.get(experiment.route)
        findings = examine(
            experiment,
            evidence.answers,
            evidence.said,
            until=until,
            ledger=self._ledger(experiment, evidence.sampled),
            earlier=settled_of(last.figures) if last else {},
            settled_s=self._config.settled_s,
        )
        return findings, evidence.sampled

    def _ledger(self, experiment: Experiment, sampled: float) -> Ledger:
        """Return the ledger of this very experiment, from the last look or a new one."""
        about = (
            experiment.stable,
            experiment.candidates,
            min(experiment.epochs),
            str(experiment.metrics),
            experiment.slo,
            sampled,
        )
        known = self._ledgers.get(experiment.route)
        if known is None or known[0] != about:
            known = self._ledgers[experiment.route] = (about, Ledger())
        return known[1]

    def _digests(self, route: Route) -> dict[str, str]:
        labels = [arm.adapter for arm in route.status.effective_arms]
        refs = [ref for label in labels if (ref := VersionRef.parse(label))]
        self._catalogue.learn(refs)
        return {str(ref): facts.digest for ref in refs if (facts := self._catalogue.get(ref))}

    def _move(self, route: Route, status: RouteStatus, epoch: int) -> None:
        canary = status.canary
        why = canary.reason if canary else None
        moved = self._store.routes.set_status(
            route.name,
            status,
            generation=route.generation,
            actor=ACTOR,
            why=why,
            epoch=epoch,
            instead_of=route.status,
        )
        if moved and canary is not None:
            log.info("the canary %s of route %s is %s: %s", canary.candidate, route.name, canary.state, why)

    async def _look_at_all(self, routes: list[Route], epoch: int) -> None:
        for route in routes:
            began = time.perf_counter()
            every = self._config.every_s
            if route.status.canary is not None and route.status.canary.live:
                every = self._config.canary_every_s
            try:
                await self.look(route, epoch)
            except LeaseLost:
                return  # the loop meets it as well, and drops everything
            except StoreUnavailable as error:
                every = FAILED_PAUSE_S
                self.failed_looks += 1
                log.warning("the experiment of route %s can't be looked at: %s", route.name, error)
            except Exception:
                every = FAILED_PAUSE_S
                self.failed_looks += 1
                log.exception("looking at the experiment of route %s failed", route.name)
            pause = max(every, PACE * (time.perf_counter() - began))
            self._due[route.name] = self._clock.monotonic() + pause

    def _done(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # none but what ends the process gets so far


def _compares(route: Route) -> bool:
    canary = route.status.canary
    return (canary is not None and canary.live) or len(shares_of(route.status.effective_arms)) > 1
