"""Removes rows that were kept long enough, in steps: each is one short transaction on one range of a key.

A step begins behind the last one's end, so that no step looks again at what the steps before it removed;
PostgreSQL would have to walk over those rows until they are vacuumed.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, func, select

from gateway.store.database import Database
from gateway.store.schema import drift, feedback, request_rows, shadow_pairs
from gateway.store.usage import summed_up


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did: how many rows it removed, where the next one begins, and whether there is none."""

    removed: int
    upto: Any
    last: bool


class Prunable:
    """One kind of rows that may be removed. `what` is how logs call them."""

    def __init__(self, database: Database, table: Table, what: str) -> None:
        self.what = what
        self._database = database
        self._table = table

    def remove(self, *, before: float, limit: int, after: Any = None) -> Step:
        """Remove rows from before a time (seconds since the epoch), looking at `limit` rows at most.

        `after` is where the last step ended, None for the first.

        Raises:
            StoreUnavailable: the store can't be reached.
        """
        table = self._table
        wanted = select(table.c.id, table.c.at).where(*self._old(before)).order_by(table.c.id).limit(limit)
        if after is not None:
            wanted = wanted.where(table.c.id > after)
        with self._database.write() as connection:
            rows = connection.execute(wanted).all()
            if not rows:
                return Step(0, after, last=True)
            first, end = rows[0].id, rows[-1].id
            doomed = delete(table).where(
                table.c.id >= first, table.c.id <= end, table.c.at < before, *self._kept()
            )
            removed = connection.execute(doomed).rowcount
        return Step(removed, end, last=len(rows) < limit or rows[-1].at >= before)

    def oldest(self) -> float | None:
        """Return when the first row was made, in seconds since the epoch; None when there is none.

        Raises:
            StoreUnavailable: the store can't be reached.
        """
        table = self._table
        with self._database.read() as connection:
            at = connection.execute(select(table.c.at).order_by(table.c.id).limit(1)).scalar()
        return None if at is None else float(at)

    def _old(self, before: float) -> list[ColumnElement[bool]]:
        """Return what the rows of a step are found by, besides where it begins."""
        raise NotImplementedError

    def _kept(self) -> list[ColumnElement[bool]]:
        """Return what spares rows however old they are."""
        return []


class _ByTime(Prunable):
    """Rows whose ids begin with the time of their request."""

    def _old(self, before: float) -> list[ColumnElement[bool]]:
        columns = self._table.c
        return [columns.id < f"req-{max(0, int(before)):08x}", columns.at < before]


class _Requests(_ByTime):
    """Recorded requests; those whose hour is not summed up yet stay, so that usage lacks none."""

    def _old(self, before: float) -> list[ColumnElement[bool]]:
        return [*super()._old(before), summed_up()]

    def _kept(self) -> list[ColumnElement[bool]]:
        return [summed_up()]


class _ByNumber(Prunable):
    """Rows whose ids count up, nearly in the order of their times: the first that is young ends the work."""

    def _old(self, before: float) -> list[ColumnElement[bool]]:  # noqa: ARG002 - the delete looks at the time
        return []


class _Verdicts(_ByNumber):
    """Verdicts of the drift monitor; the newest of each route stays."""

    def _kept(self) -> list[ColumnElement[bool]]:
        newest = select(func.max(drift.c.id)).group_by(drift.c.route)
        return [drift.c.id.not_in(newest)]


def recorded_requests(database: Database) -> Prunable:
    """Return the recorded requests of a requests database."""
    return _Requests(database, request_rows, "recorded requests")


def pairs(database: Database) -> Prunable:
    """Return the pairs of answers of a requests database."""
    return _ByTime(database, shadow_pairs, "pairs of answers")


def ratings(database: Database) -> Prunable:
    """Return the ratings of a control database."""
    return _ByNumber(database, feedback, "ratings")


def verdicts(database: Database) -> Prunable:
    """Return the verdicts on drift of a control database."""
    return _Verdicts(database, drift, "verdicts on drift")
