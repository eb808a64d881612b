"""Verdicts of the drift monitor and of its watch, which run as processes of their own."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.store.database import Database
from gateway.store.schema import drift

Kind = Literal["look", "sequential"]
Severity = Literal["ignore", "watch", "retrain", "too_little_data"]
Cause = Literal["drift", "feedback", "concept", "none"]

KEPT_PER_ROUTE = 1000
"""So many rows of the watch are kept of a route, the newest."""


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One verdict on one route, and where its report lies. `id` counts up, 0 until the row is stored.

    `kind` is "look" for `turnout monitor run`, which compares two windows once and triggers nothing, and
    "sequential" for the watch. Only the watch's rows have the fields from `severity` on: `evidence` and
    `threshold` are natural logarithms, `effect` is the size of the change (its interval is in the figures),
    `looked_from` and `looked_to` are the times of the first and the last request that count in it, and
    `adapter` is the version watched.
    """

    at: float
    route: str
    verdict: str
    figures: dict[str, Any]
    report_html: str | None
    report_json: str | None
    kind: Kind = "look"
    severity: Severity | None = None
    cause: Cause | None = None
    evidence: float | None = None
    threshold: float | None = None
    effect: float | None = None
    looked_from: float | None = None
    looked_to: float | None = None
    adapter: str | None = None
    id: int = 0


class Drift:
    """The drift table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: DriftRow) -> None:
        """Store one verdict."""
        with self._database.write() as connection:
            add(connection, row)

    def rows(
        self, route: str | None = None, *, after_id: int | None = None, limit: int = 100
    ) -> list[DriftRow]:
        """Return verdicts, newest first; with `after_id` those that were stored after it, oldest first."""
        query = select(drift).order_by(drift.c.id.desc() if after_id is None else drift.c.id).limit(limit)
        if route is not None:
            query = query.where(drift.c.route == route)
        if after_id is not None:
            query = query.where(drift.c.id > after_id)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def get(self, drift_id: int) -> DriftRow | None:
        """Return one verdict, if it is still there."""
        with self._database.read() as connection:
            row = connection.execute(select(drift).where(drift.c.id == drift_id)).one_or_none()
        return None if row is None else _row(row)

    def latest(self, kind: Kind | None = None) -> list[DriftRow]:
        """Return the newest verdict of each route, of one kind if it is given."""
        newest = select(func.max(drift.c.id)).group_by(drift.c.route)
        if kind is not None:
            newest = newest.where(drift.c.kind == kind)
        with self._database.read() as connection:
            rows = connection.execute(select(drift).where(drift.c.id.in_(newest)).order_by(drift.c.route))
            return [_row(row) for row in rows]


def add(connection: Connection, row: DriftRow) -> int:
    """Store one verdict inside the caller's transaction and return its id."""
    values = {name: value for name, value in asdict(row).items() if name != "id"}
    done = connection.execute(insert(drift).values(**values))
    return int((done.inserted_primary_key or (0,))[0])


def attach(connection: Connection, route: str, at: float, html: str, json: str) -> None:
    """Note where the report of a verdict of the watch lies, inside the caller's transaction."""
    known = (drift.c.route == route) & (drift.c.at == at) & (drift.c.kind == "sequential")
    connection.execute(update(drift).where(known).values(report_html=html, report_json=json))


def prune(connection: Connection, route: str, *, keep: int = KEPT_PER_ROUTE) -> None:
    """Remove a route's old rows of the watch inside the caller's transaction; alarms stay."""
    ours = (drift.c.route == route) & (drift.c.kind == "sequential")
    last = select(drift.c.id).where(ours).order_by(drift.c.id.desc()).offset(keep).limit(1).scalar_subquery()
    connection.execute(delete(drift).where(ours, drift.c.severity != "retrain", drift.c.id <= last))


_FIELDS = tuple(field.name for field in fields(DriftRow))


def _row(row: Any) -> DriftRow:
    return DriftRow(**{name: getattr(row, name) for name in _FIELDS})
