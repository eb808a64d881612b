"""Replicas, what is registered on them, the workers that serve, and the lease that elects a controller."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Table, delete, insert, select, update

from gateway.core.refs import VersionRef
from gateway.store import clock, events, holds
from gateway.store.database import Database, WrittenMeanwhile, retried
from gateway.store.lease import CONTROLLER, LeaseLost, require_epoch
from gateway.store.schema import leases, registrations, replicas, workers

__all__ = ["CONTROLLER", "Fleet", "LeaseLost", "RegistrationRow", "ReplicaRow", "WorkerRow"]

RegistrationState = Literal["registered", "attested", "failed"]


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One engine. `incarnation` is its `process_start_time_seconds`; `capacity` holds its limits.

    `quarantine` is what the controller remembers of its failures (`gateway.controller.quarantine`).
    """

    id: str
    url: str
    adapter_root: str | None
    incarnation: str | None
    healthy: bool
    reason: str | None
    seen_at: float | None
    capacity: dict[str, Any]
    quarantine: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RegistrationRow:
    """What is known of one version on one replica incarnation."""

    replica: str
    ref: VersionRef
    incarnation: str
    digest: str
    state: RegistrationState
    figures: dict[str, Any] | None
    reason: str | None
    at: float


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One gateway worker's last sign of life."""

    id: str
    applied_generation: int
    in_flight: dict[str, int]
    seen_at: float


class Fleet:
    """Replicas, registrations, workers and leases. Writes under a lease name its epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replicas(self) -> list[ReplicaRow]:
        """Return every known replica by id."""
        with self._database.read() as connection:
            rows = connection.execute(select(replicas).order_by(replicas.c.id))
            return [ReplicaRow(**row._asdict()) for row in rows]

    def set_replicas(self, wanted: dict[str, tuple[str, str | None]], *, epoch: int | None = None) -> None:
        """Make the replicas exactly `wanted`: id → (URL, adapter root as that engine sees it).

        What is known of a replica whose id and URL stay is kept; what was registered elsewhere goes.
        A controller names its epoch; who starts the service has none.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        # Machines that start at the same moment write the same ids.
        retried(lambda: self._set_replicas(wanted, epoch))

    def _set_replicas(self, wanted: dict[str, tuple[str, str | None]], epoch: int | None) -> None:
        with self._database.write() as connection:
            if epoch is not None:
                require_epoch(connection, epoch)
            known = {row.id: row for row in connection.execute(select(replicas))}
            for gone in known.keys() - wanted.keys():
                connection.execute(delete(replicas).where(replicas.c.id == gone))
                connection.execute(delete(registrations).where(registrations.c.replica == gone))
                holds.end(connection, gone)
            for replica, (url, root) in wanted.items():
                old = known.get(replica)
                if old is not None and (old.url, old.adapter_root) == (url, root):
                    continue
                connection.execute(delete(replicas).where(replicas.c.id == replica))
                connection.execute(delete(registrations).where(registrations.c.replica == replica))
                holds.end(connection, replica)
                connection.execute(
                    insert(replicas).values(
                        id=replica,
                        url=url,
                        adapter_root=root,
                        healthy=False,
                        reason="not seen yet",
                        capacity={},
                    )
                )
            events.bump(connection)

    def observe(
        self,
        replica: str,
        *,
        epoch: int,
        healthy: bool,
        incarnation: str | None,
        reason: str | None = None,
        capacity: dict[str, Any] | None = None,
        quarantine: dict[str, Any] | None = None,
    ) -> None:
        """Record what the controller saw of a replica; a new incarnation forgets its registrations.

        `capacity` None leaves what was known.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            old = connection.execute(select(replicas).where(replicas.c.id == replica)).one_or_none()
            if old is None:
                return
            connection.execute(
                update(replicas)
                .where(replicas.c.id == replica)
                .values(
                    healthy=healthy,
                    incarnation=incarnation or old.incarnation,
                    reason=reason,
                    seen_at=clock.now(connection) if healthy else old.seen_at,
                    capacity=old.capacity if capacity is None else capacity,
                    quarantine=quarantine,
                )
            )
            reborn = incarnation is not None and old.incarnation != incarnation
            if reborn:
                connection.execute(delete(registrations).where(registrations.c.replica == replica))
                holds.end(connection, replica, but=incarnation)
            if reborn or bool(old.healthy) != healthy:
                events.bump(connection)

    def registrations(self) -> list[RegistrationRow]:
        """Return what is known of every version on every replica."""
        with self._database.read() as connection:
            return [_registration(row) for row in connection.execute(select(registrations))]

    def set_registration(self, row: RegistrationRow, *, epoch: int) -> None:
        """Record the state of one version on one replica.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            connection.execute(_same(registrations, row))
            connection.execute(
                insert(registrations).values(
                    replica=row.replica,
                    name=row.ref.name,
                    version=row.ref.version,
                    incarnation=row.incarnation,
                    digest=row.digest,
                    state=row.state,
                    figures=row.figures,
                    reason=row.reason,
                    at=row.at,
                )
            )
            events.bump(connection)

    def remove_registration(self, replica: str, ref: VersionRef, *, epoch: int) -> None:
        """Forget one version on one replica.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            connection.execute(
                delete(registrations).where(
                    registrations.c.replica == replica,
                    registrations.c.name == ref.name,
                    registrations.c.version == ref.version,
                )
            )
            events.bump(connection)

    def beat(self, worker: WorkerRow) -> None:
        """Upsert a worker's sign of life.

        Rows of other workers are left alone: one that vanishes says that its worker has served its last
        request, so only the worker itself takes its row away, or the controller after a long silence.
        """
        values = {
            "applied_generation": worker.applied_generation,
            "in_flight": worker.in_flight,
            "seen_at": worker.seen_at,
        }
        with self._database.write() as connection:
            done = connection.execute(update(workers).where(workers.c.id == worker.id).values(**values))
            if done.rowcount == 0:
                connection.execute(insert(workers).values(id=worker.id, **values))

    def workers(self) -> list[WorkerRow]:
        """Return every worker that has not signed off."""
        with self._database.read() as connection:
            return [WorkerRow(**row._asdict()) for row in connection.execute(select(workers))]

    def forget_worker(self, worker_id: str) -> None:
        """Remove a worker that stops in good order."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker_id))

    def forget_silent(self, worker_ids: Collection[str], *, epoch: int) -> None:
        """Remove workers that ended without signing off.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            connection.execute(delete(workers).where(workers.c.id.in_(worker_ids)))

    def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """Take or renew a lease; return its epoch, or None while another holder's is running.

        The epoch grows whenever the holder changes or a lapsed lease is taken again. Time is the store's;
        a term that ends later than one could have been given, because a clock was set back, is cut short.
        """
        try:
            with self._database.write() as connection:
                now = clock.now(connection)
                row = connection.execute(
                    select(leases).where(leases.c.name == name).with_for_update()
                ).one_or_none()
                if row is None:
                    connection.execute(
                        insert(leases).values(name=name, holder=holder, epoch=1, expires_at=now + ttl_s)
                    )
                    return 1
                running = row.expires_at > now
                if running and row.holder != holder:
                    if row.expires_at > now + ttl_s:
                        connection.execute(
                            update(leases).where(leases.c.name == name).values(expires_at=now + ttl_s)
                        )
                    return None
                epoch = row.epoch if running else row.epoch + 1
                connection.execute(
                    update(leases)
                    .where(leases.c.name == name)
                    .values(holder=holder, epoch=epoch, expires_at=now + ttl_s)
                )
                return int(epoch)
        except WrittenMeanwhile:  # two first holders at once: the other one won
            return None

    def release(self, name: str, holder: str) -> None:
        """Give a lease back early."""
        with self._database.write() as connection:
            connection.execute(
                update(leases).where(leases.c.name == name, leases.c.holder == holder).values(expires_at=0.0)
            )

    def controller(self) -> tuple[str, int, float] | None:
        """Return who holds the controller's lease: (holder, epoch, expires_at), or None when nobody did."""
        with self._database.read() as connection:
            row = connection.execute(select(leases).where(leases.c.name == CONTROLLER)).one_or_none()
        return None if row is None else (row.holder, row.epoch, row.expires_at)


def _same(table: Table, row: RegistrationRow) -> Any:
    return delete(table).where(
        table.c.replica == row.replica,
        table.c.name == row.ref.name,
        table.c.version == row.ref.version,
    )


def _registration(row: Any) -> RegistrationRow:
    return RegistrationRow(
        replica=row.replica,
        ref=VersionRef(row.name, row.version),
        incarnation=row.incarnation,
        digest=row.digest,
        state=row.state,
        figures=row.figures,
        reason=row.reason,
        at=row.at,
    )
