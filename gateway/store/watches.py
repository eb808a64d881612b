"""Where the watch of each route stands. A look is one transaction: it has happened whole, or not at all.

A watch that is killed between two looks goes on from the last one, and one that is killed in a look makes it
again: what it had counted is in no row yet. Embeddings and reports that it had made by then are found, or
written again under the same name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from gateway.store import drift as drift_rows
from gateway.store import events
from gateway.store.database import Database
from gateway.store.drift import DriftRow
from gateway.store.lease import LeaseLost, require_epoch
from gateway.store.schema import watch_references, watches

_LEASE = "watch:"
ACTOR = "monitor"


@dataclass(frozen=True, slots=True)
class WatchRow:
    """The watch of one route. Times are seconds since the epoch.

    `adapter` is the version watched, and `basis` says where its reference begins and why. `reference` is the
    number of the present reference, 0 while there is none. `seen_*` is the last request that was counted or
    passed over, `rated_id` the last rating. `due_at` is when the next look is promised, None when nobody
    promises one. `failed` counts looks that could not be made, and `error` says why the last one could not,
    None after one that could. `alarms` holds when each stream last raised one. `figures` are the last look's.
    """

    route: str
    looks: int = 0
    adapter: str | None = None
    basis: dict[str, Any] = field(default_factory=dict)
    reference: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    seen_at: float = 0.0
    seen_id: str = ""
    rated_id: int = 0
    looked_at: float | None = None
    due_at: float | None = None
    failed: int = 0
    error: str | None = None
    alarms: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """What a route's detector compares with: a document, and arrays as a NumPy archive."""

    route: str
    number: int
    made_at: float
    document: dict[str, Any]
    arrays: bytes


class Watches:
    """The tables of the watch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, route: str) -> WatchRow | None:
        """Return where a route's watch stands, or None before its first look."""
        with self._database.read() as connection:
            row = connection.execute(select(watches).where(watches.c.route == route)).one_or_none()
        return None if row is None else _row(row)

    def stand(self, *, limit: int | None = None) -> list[WatchRow]:
        """Return where the watches of all routes stand, by route, without the states: those are large."""
        light = [watches.c[name] for name in _FIELDS if name != "state"]
        with self._database.read() as connection:
            found = connection.execute(select(*light).order_by(watches.c.route).limit(limit))
            return [WatchRow(**row._asdict()) for row in found]

    def reference(self, route: str, number: int) -> ReferenceRow | None:
        """Return a route's reference of that number, or None when it is no longer the present one."""
        query = select(watch_references).where(
            watch_references.c.route == route, watch_references.c.number == number
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else ReferenceRow(**{**row._asdict(), "arrays": bytes(row.arrays)})

    def commit(
        self,
        row: WatchRow,
        *,
        epoch: int,
        reference: ReferenceRow | None = None,
        verdicts: Sequence[DriftRow] = (),
        report: tuple[float, str, str] | None = None,
    ) -> None:
        """Replace a route's row by the one that follows, with its verdicts and a new reference, or nothing.

        A verdict that calls for a training is an event of the route. `report` says of the verdict of a time
        where its page and its document lie.

        Raises:
            LeaseLost: `epoch` is no longer the route's, or the row does not follow the stored one.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch, name=lease_name(row.route))
            _put(connection, row)
            if reference is not None:
                connection.execute(delete(watch_references).where(watch_references.c.route == row.route))
                connection.execute(insert(watch_references).values(**asdict(reference)))
            for verdict in verdicts:
                drift_rows.add(connection, verdict)
                if verdict.severity == "retrain":
                    _say(connection, row, verdict)
            if verdicts:
                drift_rows.prune(connection, row.route)
            if report is not None:
                drift_rows.attach(connection, row.route, *report)

    def forget(self, route: str) -> None:
        """Remove a route's watch: it begins anew."""
        with self._database.write() as connection:
            for table in (watches, watch_references):
                connection.execute(delete(table).where(table.c.route == route))


def lease_name(route: str) -> str:
    """Return the name of the lease that the watcher of a route holds."""
    return (
        _LEASE + hashlib.sha256(route.encode()).hexdigest()[:32]
    )  # a route's name is as long as a lease's may be


def _say(connection: Connection, row: WatchRow, verdict: DriftRow) -> None:
    """Record an alarm in the audit log; what the texts were is not in it."""
    said = {name: verdict.figures.get(name) for name in ("stream", "change_at")}
    after = {"cause": verdict.cause, "adapter": row.adapter, "evidence": verdict.evidence, **said}
    events.record(
        connection, actor=ACTOR, action="drift.alarm", subject=row.route, why=None, before=None, after=after
    )


def _put(connection: Connection, row: WatchRow) -> None:
    values = asdict(row)
    if row.looks == 1:
        there = connection.execute(select(watches.c.route).where(watches.c.route == row.route)).one_or_none()
        if there is None:
            connection.execute(insert(watches).values(**values))
            return
    known = (watches.c.route == row.route) & (watches.c.looks == row.looks - 1)
    if connection.execute(update(watches).where(known).values(**values)).rowcount == 0:
        raise LeaseLost(f"another watcher looked at {row.route} meanwhile")


_FIELDS = tuple(each.name for each in fields(WatchRow))


def _row(row: Any) -> WatchRow:
    return WatchRow(**{name: getattr(row, name) for name in _FIELDS})
