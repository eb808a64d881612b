"""What placement rests on and what it decided: usage by worker, requests that wait, homes, counts."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from gateway.core.refs import VersionRef
from gateway.store import clock, events
from gateway.store.database import Database
from gateway.store.lease import require_epoch
from gateway.store.schema import cold_requests, homes, residency, worker_usage

FORGET_USAGE_AFTER_S = 3600.0

NOWHERE = ("",)
"""The home of a version that has to go: nothing is sent to it any more, wherever it still stands."""


@dataclass(frozen=True, slots=True)
class ColdRequest:
    """A version that requests wait for: since when, until when the ask stands, and why it can't be had.

    Times are the store's; `over` says whether the ask has ended by now.
    """

    ref: VersionRef
    asked_at: float
    until: float
    refusal: str | None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a version is asked for: a decayed count, and when it last was (seconds since the epoch)."""

    count: float
    used_at: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a version was loaded because requests waited for it, and sent away to make room."""

    cold_loads: int
    evictions: int


class Placements:
    """The tables of placement. What the controller writes names its epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- what workers write -------------------------------------------------------------------------------

    def report_usage(self, worker: str, usage: Mapping[str, tuple[float, float]], *, at: float) -> None:
        """Store a worker's decayed counts: label → (count, used at); drop those of workers long gone."""
        values = {"at": at, "usage": usage}
        with self._database.write() as connection:
            done = connection.execute(
                update(worker_usage).where(worker_usage.c.worker == worker).values(**values)
            )
            if done.rowcount == 0:
                connection.execute(insert(worker_usage).values(worker=worker, **values))
            connection.execute(delete(worker_usage).where(worker_usage.c.at < at - FORGET_USAGE_AFTER_S))

    def ask(self, ref: VersionRef, *, stands_s: float) -> ColdRequest:
        """Say that requests wait for a version, for so long; return what is known of the ask.

        Many workers may ask for the same version: it is one ask, which stands until the last of them.

        Raises:
            StoreUnavailable: the store can't be written, or another worker asked at the same moment.
        """
        same = _same(cold_requests, ref)
        with self._database.write() as connection:
            known = connection.execute(select(cold_requests).where(same).with_for_update()).one_or_none()
            now = clock.now(connection)
            until = now + stands_s
            if known is None:
                row = ColdRequest(ref, now, until, None)
                connection.execute(
                    insert(cold_requests).values(
                        name=ref.name, version=ref.version, asked_at=row.asked_at, until=until
                    )
                )
                return row
            later = max(until, known.until)
            connection.execute(update(cold_requests).where(same).values(until=later))
            return ColdRequest(ref, known.asked_at, later, known.refusal)

    # --- what the controller reads ------------------------------------------------------------------------

    def usage(self, *, now: float, half_life_s: float) -> dict[VersionRef, Usage]:
        """Return the usage of all workers together, decayed to `now`; a worker that is gone fades with it."""
        total: dict[VersionRef, Usage] = {}
        with self._database.read() as connection:
            rows = connection.execute(select(worker_usage)).all()
        for row in rows:
            factor = math.exp(-math.log(2) * max(0.0, now - row.at) / half_life_s)
            for label, (count, used_at) in row.usage.items():
                ref = VersionRef.parse(label)
                if ref is None:
                    continue
                before = total.get(ref, Usage(0.0, 0.0))
                total[ref] = Usage(before.count + count * factor, max(before.used_at, used_at))
        return total

    def asked(self) -> list[ColdRequest]:
        """Return every ask, the oldest first, those that have ended included."""
        with self._database.read() as connection:
            now = clock.now(connection)
            rows = connection.execute(select(cold_requests).order_by(cold_requests.c.asked_at))
            return [
                ColdRequest(
                    VersionRef(row.name, row.version), row.asked_at, row.until, row.refusal, row.until < now
                )
                for row in rows
            ]

    def homes(self) -> dict[VersionRef, tuple[str, ...]]:
        """Return the replicas that get each version's traffic, by id; `NOWHERE` for one that has to go."""
        found: dict[VersionRef, list[str]] = {}
        with self._database.read() as connection:
            for row in connection.execute(select(homes).order_by(homes.c.replica)):
                found.setdefault(VersionRef(row.name, row.version), []).append(row.replica)
        return {ref: tuple(replicas) for ref, replicas in found.items()}

    def counts(self, *, most: int | None = None) -> dict[VersionRef, Counts]:
        """Return cold loads and evictions by version; with `most`, of so many that were loaded most often."""
        with self._database.read() as connection:
            rows = connection.execute(select(residency).order_by(residency.c.cold_loads.desc()).limit(most))
            return {VersionRef(row.name, row.version): Counts(row.cold_loads, row.evictions) for row in rows}

    # --- what the controller writes -----------------------------------------------------------------------

    def set_homes(
        self,
        wanted: Mapping[VersionRef, tuple[str, ...]],
        *,
        cold_loaded: Collection[VersionRef] = (),
        evicted: Collection[VersionRef] = (),
        epoch: int,
    ) -> None:
        """Make the homes exactly `wanted`, and count what came and went; a new generation if they differ.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            known = {(r.name, r.version, r.replica) for r in connection.execute(select(homes))}
            new = {(ref.name, ref.version, replica) for ref, places in wanted.items() for replica in places}
            for name, version, replica in known - new:
                connection.execute(
                    delete(homes).where(
                        homes.c.name == name, homes.c.version == version, homes.c.replica == replica
                    )
                )
            for name, version, replica in sorted(new - known):
                connection.execute(insert(homes).values(name=name, version=version, replica=replica))
            for ref in cold_loaded:
                _add(connection, ref, cold_loads=1)
            for ref in evicted:
                _add(connection, ref, evictions=1)
            if known != new:
                events.bump(connection)

    def refuse(self, ref: VersionRef, reason: str, *, epoch: int) -> None:
        """Tell those who wait for a version why it can't be had.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            connection.execute(update(cold_requests).where(_same(cold_requests, ref)).values(refusal=reason))

    def forget(self, refs: Collection[VersionRef], *, epoch: int) -> None:
        """Drop asks that were answered or have run out.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            for ref in refs:
                connection.execute(delete(cold_requests).where(_same(cold_requests, ref)))


def _same(table: Table, ref: VersionRef) -> Any:
    return (table.c.name == ref.name) & (table.c.version == ref.version)


def _add(connection: Connection, ref: VersionRef, *, cold_loads: int = 0, evictions: int = 0) -> None:
    done = connection.execute(
        update(residency)
        .where(_same(residency, ref))
        .values(cold_loads=residency.c.cold_loads + cold_loads, evictions=residency.c.evictions + evictions)
    )
    if done.rowcount == 0:
        connection.execute(
            insert(residency).values(
                name=ref.name, version=ref.version, cold_loads=cold_loads, evictions=evictions
            )
        )
