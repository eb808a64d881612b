"""The controller's placement, from the store to the store: reads usage and asks, decides, writes homes.

One decision-maker: whatever a worker needs, it asks for in the store, and the effective controller answers.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from gateway.controller.clock import Clock
from gateway.controller.placement import Placement, Slots, Standing
from gateway.controller.planner import Planner, PlannerConfig, Report, expected_load
from gateway.controller.routes import needed_versions
from gateway.core.refs import VersionRef
from gateway.store.control import ControlStore, Snapshot
from gateway.store.database import StoreUnavailable
from gateway.store.fleet import RegistrationRow, ReplicaRow
from gateway.store.placement import NOWHERE, ColdRequest

log = logging.getLogger(__name__)

Policy = Literal["demand", "hash", "everywhere"]
WAKE_POLL_S = 0.05
"""How often asks for versions that stand nowhere are looked for between turns."""

NOT_SEEN = "not seen yet"


@dataclass(frozen=True, slots=True)
class Needs:
    """What routes need, and every other active version with the time it was made.

    `shadows` are asked for by nobody who waits: they get a place like any version that was used.
    """

    serving: frozenset[VersionRef]
    wanted: frozenset[VersionRef]
    others: Mapping[VersionRef, float]
    shadows: frozenset[VersionRef] = frozenset()


class Placer:
    """Decides once a turn. What it remembers is worth nothing to another controller."""

    def __init__(
        self,
        store: ControlStore,
        *,
        planner: PlannerConfig,
        slots: Slots,
        policy: Policy = "demand",
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self._clock = clock
        self._store = store
        self._config = planner
        self._planner = Planner(planner)
        self._slots = slots
        self._policy = policy
        self._heard: frozenset[VersionRef] = frozenset()

    def place(
        self, snapshot: Snapshot, needs: Needs, *, leaving: Collection[str] = (), epoch: int
    ) -> dict[str, tuple[VersionRef, ...]]:
        """Return what shall stand on each replica, the most urgent first; store homes that changed.

        Nothing new comes to replicas that are `leaving`; they go on with what they have.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
            StoreUnavailable: the store can't be read or written.
        """
        if self._policy != "demand":
            return self._regardless(snapshot, needs, epoch)
        now = self._clock.wall()
        replicas = {row.id: row for row in snapshot.replicas}
        present = [row for row in snapshot.registrations if row.incarnation == _incarnation(replicas, row)]
        standing = _standing(snapshot, present)
        candidates = {
            row.id: self._slots for row in snapshot.replicas if _hopeful(row) and row.id not in leaving
        }
        asks = self._asks(needs, standing, present, candidates, epoch=epoch)
        report = self._report(snapshot, needs, present, asks, now=now)
        placement = self._planner.plan(report, candidates, standing)
        self._write(snapshot, placement, asks, standing, epoch=epoch)
        kept = {
            replica: self._kept(replica, present, placement, fill=replica not in leaving)
            for replica in replicas.keys() - candidates.keys()
        }
        return {**placement.on, **kept}

    def _kept(
        self, replica: str, present: Iterable[RegistrationRow], placement: Placement, *, fill: bool
    ) -> tuple[VersionRef, ...]:
        """Return what a replica gets that is not well: what it has, since it may only be slow.

        One that has nothing is filled as soon as it is well, and not a turn later.
        """
        has = tuple(sorted(row.ref for row in present if row.replica == replica))
        return has or (tuple(placement.homes)[: self._slots.max_cpu_loras] if fill else ())

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        """Return after so many seconds, or early at `stop` or when requests wait for one more version."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), min(left, WAKE_POLL_S))
            except TimeoutError:
                if self._heard_of_more():
                    return

    # --- what is known ------------------------------------------------------------------------------------

    def _heard_of_more(self) -> bool:
        try:
            return (
                not {ask.ref for ask in self._store.placement.asked() if ask.refusal is None} <= self._heard
            )
        except StoreUnavailable:  # the next turn meets it, counts it and logs it
            return False

    def _asks(
        self,
        needs: Needs,
        standing: Standing,
        present: Sequence[RegistrationRow],
        candidates: Collection[str],
        *,
        epoch: int,
    ) -> dict[VersionRef, ColdRequest]:
        """Return the asks that stand; those that are answered or over are dropped, hopeless ones refused."""
        asked = self._store.placement.asked()
        self._heard = frozenset(ask.ref for ask in asked)
        served = set().union(*standing.attested.values()) & standing.homes.keys()
        over = [ask.ref for ask in asked if ask.over or ask.ref in served]
        known = needs.serving | needs.wanted | needs.others.keys()
        open_asks = {ask.ref: ask for ask in asked if ask.ref not in over}
        for ref, ask in open_asks.items():
            reason = _hopeless(ref, present, candidates) if ref in known else "it is retired"
            if reason is not None and ask.refusal != reason:
                self._store.placement.refuse(ref, reason, epoch=epoch)
            elif reason is None and ask.refusal is not None:
                over.append(ref)  # it may be asked for anew
        if over:
            self._store.placement.forget(over, epoch=epoch)
        return {ref: ask for ref, ask in open_asks.items() if ref in known}

    def _report(
        self,
        snapshot: Snapshot,
        needs: Needs,
        present: Iterable[RegistrationRow],
        asks: Mapping[VersionRef, ColdRequest],
        *,
        now: float,
    ) -> Report:
        usage = self._store.placement.usage(now=now, half_life_s=self._config.half_life_s)
        attested_at: dict[VersionRef, float] = {}
        for row in present:
            if row.state == "attested":
                attested_at[row.ref] = max(row.at, attested_at.get(row.ref, 0.0))
        return Report(
            at=now,
            serving=needs.serving,
            wanted=needs.wanted & _being_prepared(snapshot),
            others=needs.others,
            shadows=needs.shadows,
            usage=usage,
            in_flight=self._in_flight(),
            waiting={ref: ask.asked_at for ref, ask in asks.items()},
            expected=expected_load(snapshot.routes, usage, half_life_s=self._config.half_life_s),
            attested_at=attested_at,
        )

    def _in_flight(self) -> dict[VersionRef, int]:
        """Return the requests in flight as all workers say, also those that may be gone: to be careful."""
        total: dict[VersionRef, int] = {}
        for worker in self._store.fleet.workers():
            for label, count in worker.in_flight.items():
                if (ref := VersionRef.parse(label)) is not None:
                    total[ref] = total.get(ref, 0) + count
        return total

    # --- what is decided ----------------------------------------------------------------------------------

    def _write(
        self,
        snapshot: Snapshot,
        placement: Placement,
        asks: Collection[VersionRef],
        standing: Standing,
        *,
        epoch: int,
    ) -> None:
        stood = set().union(*standing.attested.values())
        homes = {ref: tuple(sorted(replicas)) for ref, replicas in placement.homes.items()}
        homes |= dict.fromkeys(stood - homes.keys(), NOWHERE)
        before = {ref: tuple(sorted(replicas)) for ref, replicas in snapshot.homes.items()}
        if homes == before:
            return
        came = {ref for ref in asks if homes.get(ref, NOWHERE) != NOWHERE and ref not in standing.homes}
        gone = {ref for ref, replicas in homes.items() if replicas == NOWHERE} & snapshot.versions
        evicted = {ref for ref in gone if before.get(ref) != NOWHERE}
        self._store.placement.set_homes(homes, cold_loaded=came, evicted=evicted, epoch=epoch)
        for ref in sorted(came):
            log.info("%s is loaded on demand on %s", ref, ", ".join(homes[ref]))
        for ref in sorted(evicted):
            log.info("%s makes room", ref)

    def _regardless(self, snapshot: Snapshot, needs: Needs, epoch: int) -> dict[str, tuple[VersionRef, ...]]:
        """Place everything everywhere, whatever the slots; with `hash`, the name decides on the home."""
        replicas = sorted(row.id for row in snapshot.replicas)
        newest = sorted(needs.others, key=lambda ref: (-needs.others[ref], ref))
        order = dict.fromkeys((*sorted(needs.serving), *sorted(needs.wanted), *newest))
        healthy = sorted(row.id for row in snapshot.replicas if _hopeful(row))
        homes = {ref: (_by_hash(ref, healthy),) for ref in order if healthy and self._policy == "hash"}
        if homes != dict(snapshot.homes):
            self._store.placement.set_homes(homes, epoch=epoch)
        return dict.fromkeys(replicas, tuple(order))


def _standing(snapshot: Snapshot, present: Iterable[RegistrationRow]) -> Standing:
    attested: dict[str, set[VersionRef]] = {}
    failed = set()
    for row in present:
        if row.state == "attested":
            attested.setdefault(row.replica, set()).add(row.ref)
        elif row.state == "failed":
            failed.add((row.replica, row.ref))
    homes = {ref: replicas for ref, replicas in snapshot.homes.items() if replicas != NOWHERE}
    return Standing(
        homes,
        {replica: frozenset(refs) for replica, refs in attested.items()},
        failed=frozenset(failed),
        going=frozenset(snapshot.homes.keys() - homes.keys()),
    )


def _hopeless(ref: VersionRef, present: Iterable[RegistrationRow], candidates: Collection[str]) -> str | None:
    """Return why a version can't be had when it has failed on every replica that there is."""
    failed = {row.replica: row.reason or "it failed" for row in present if _failed(row, ref)}
    return min(failed.values()) if failed and failed.keys() >= set(candidates) else None


def _failed(row: RegistrationRow, ref: VersionRef) -> bool:
    return row.ref == ref and row.state == "failed"


def _being_prepared(snapshot: Snapshot) -> set[VersionRef]:
    """Return what specs need that have not taken effect yet; what serves already is no news."""
    return {
        ref
        for route in snapshot.routes
        if route.status.active_generation != route.generation
        for ref in needed_versions(route)[1]
    }


def _incarnation(replicas: Mapping[str, ReplicaRow], row: RegistrationRow) -> str | None:
    replica = replicas.get(row.replica)
    return None if replica is None else replica.incarnation


def _hopeful(row: ReplicaRow) -> bool:
    """Whether to count on a replica: it is healthy, or nobody has looked yet."""
    return row.healthy or (row.seen_at is None and row.reason == NOT_SEEN)


def _by_hash(ref: VersionRef, replicas: list[str]) -> str:
    digest = blake2b(ref.name.encode(), digest_size=8).digest()
    return replicas[int.from_bytes(digest, "big") % len(replicas)]
