"""Holds: which blobs an engine process may still read, so that none is removed under it.

An engine re-reads an evicted adapter from its path in the middle of a step, and dies when the files are gone.
Unregistering a name ends nothing: a request that was accepted before may still need the files. So a hold is
written before an adapter is loaded, and lasts until that incarnation has ended and some time more, in which
its last requests end too.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from gateway.core.refs import VersionRef
from gateway.core.routes import RouteSpec, RouteStatus
from gateway.store import clock
from gateway.store.database import Database
from gateway.store.lease import require_epoch
from gateway.store.schema import holds, routes, versions

GRACE_S = 3600.0
"""How long a blob stays after an incarnation that may read it was seen to have ended, or its replica was
removed: above the longest time that one request may take."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An engine incarnation that may read a blob; `ended_at` (the store's time) is None while it may run."""

    replica: str
    incarnation: str
    digest: str
    at: float
    ended_at: float | None


class Holds:
    """The holds table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, replica: str, incarnation: str, digest: str, *, epoch: int) -> None:
        """Write, before a load, that this incarnation may read the blob from now on.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        row = {"replica": replica, "incarnation": incarnation, "digest": digest}
        same = [holds.c[name] == value for name, value in row.items()]
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            done = connection.execute(update(holds).where(*same).values(ended_at=None))
            if done.rowcount == 0:
                connection.execute(insert(holds).values(**row, at=clock.now(connection)))

    def rows(self) -> list[Hold]:
        """Return every hold, ended ones included."""
        with self._database.read() as connection:
            return [Hold(**row._asdict()) for row in connection.execute(select(holds))]

    def forget(self) -> None:
        """Drop the holds whose grace is over."""
        with self._database.write() as connection:
            connection.execute(delete(holds).where(holds.c.ended_at < clock.now(connection) - GRACE_S))

    def claim(self, digest: str, *, retired_for_s: float) -> str | None:
        """Return why a blob must stay, or None when nobody may need it.

        It may go when each of its versions has been retired for `retired_for_s` seconds, no route names one
        of them or meets one, and no engine that ever loaded it can be running still.
        """
        with self._database.read() as connection:
            now = clock.now(connection)
            return (
                _by_version(connection, digest, retired_before=now - retired_for_s)
                or _by_route(connection, digest)
                or _by_engine(connection, digest, ended_before=now - GRACE_S)
            )


def end(connection: Connection, replica: str, *, but: str | None = None) -> None:
    """Note that every incarnation of a replica has ended, except `but`."""
    ended = update(holds).where(holds.c.replica == replica, holds.c.ended_at.is_(None))
    if but is not None:
        ended = ended.where(holds.c.incarnation != but)
    connection.execute(ended.values(ended_at=clock.now(connection)))


def _by_version(connection: Connection, digest: str, *, retired_before: float) -> str | None:
    for row in connection.execute(select(versions).where(versions.c.digest == digest)):
        if row.retired_at is None:
            return f"{row.name}@{row.version} is active"
        if row.retired_at > retired_before:
            return f"{row.name}@{row.version} was retired lately"
    return None


def _by_route(connection: Connection, digest: str) -> str | None:
    same = select(versions.c.name, versions.c.version).where(versions.c.digest == digest)
    refs = {VersionRef(row.name, row.version) for row in connection.execute(same)}
    labels = {str(ref) for ref in refs}
    for row in connection.execute(select(routes)) if refs else ():
        meets = {arm.adapter for arm in RouteStatus.model_validate(row.status).effective_arms}
        if refs & RouteSpec.model_validate(row.spec).versions() or labels & meets:
            return f"the route {row.name} names it"
    return None


def _by_engine(connection: Connection, digest: str, *, ended_before: float) -> str | None:
    for row in connection.execute(select(holds).where(holds.c.digest == digest)):
        if row.ended_at is None:
            return f"the engine of {row.replica} may still read it"
        if row.ended_at > ended_before:
            return f"an engine of {row.replica} that could read it has ended only lately"
    return None
