"""Recorded prompts as the watch reads them: at most one a subject and day, drawn and counted in the database.

However many rows a period has, no more than were asked for leave the database. A day is one of UTC. Only
requests whose prompt was captured are here, and none that is internal.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, cast, func, literal, select, tuple_
from sqlalchemy.sql.selectable import Subquery

from gateway.core.requests import RequestRow
from gateway.core.signals import AGAIN_WITHIN_S
from gateway.store.database import Database
from gateway.store.schema import feedback, request_rows

_IDS_AT_ONCE = 200
_DAY_S = 86_400.0
_FIELDS = tuple(field.name for field in fields(RequestRow))


class Period(NamedTuple):
    """A route's requests from `since` on and before `until`; of one version, or of any when that is None."""

    route: str
    since: float
    until: float
    adapter: str | None = None


class Seen(NamedTuple):
    """A request that was drawn."""

    id: str
    at: float


class Totals(NamedTuple):
    """How many ratings there are, and the number of the last one (0 without any)."""

    ratings: int
    last_id: int


class Watched(NamedTuple):
    """A recorded request, and whether its subject sent another one within a minute after the answer.

    `asked_again` is None where that can't be told: no subject is known, or there was no answer.
    """

    row: RequestRow
    asked_again: bool | None


class Traffic:
    """The requests table, read for the watch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sqlite = database.url.startswith("sqlite")

    def count(self, period: Period) -> int:
        """Return how many prompts a period has, at most one a subject and day."""
        first = self._first(period)
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(first)).scalar_one())

    def bounds(self, period: Period) -> tuple[float, float] | None:
        """Return the times of the first and the last prompt of a period; None when it has none."""
        rows = request_rows.c
        query = select(func.min(rows.at), func.max(rows.at)).where(*_inside(period))
        with self._database.read() as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (float(first), float(last))

    def time_of(self, period: Period, nth: int, *, newest: bool = False) -> float | None:
        """Return when the nth prompt of a period was sent, from its begin or end; None without so many."""
        first = self._first(period)
        order = first.c.at.desc() if newest else first.c.at
        query = select(first.c.at).order_by(order).offset(nth - 1).limit(1)
        with self._database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else float(found)

    def sample(self, period: Period, *, limit: int, after: Seen | None = None) -> list[Seen]:
        """Return at most `limit` prompts of a period that follow `after`, oldest first.

        Where there are more, they are drawn by the random end of their ids: the same ones each time.
        """
        first = self._first(period)
        query = select(first.c.id, first.c.at).order_by(_end(first.c.id), first.c.id).limit(limit)
        if after is not None:
            query = query.where(tuple_(first.c.at, first.c.id) > tuple_(literal(after.at), literal(after.id)))
        with self._database.read() as connection:
            found = [Seen(row.id, float(row.at)) for row in connection.execute(query)]
        return sorted(found, key=lambda seen: (seen.at, seen.id))

    def runs(self, period: Period, *, limit: int, rows: int) -> list[Seen]:
        """Return the prompts of a period, oldest first: all, or whole runs of `rows` that follow each other.

        A run is of one day, whose last one may be shorter. Where there are more than `limit` prompts, runs
        are drawn by the random end of their first id until there are so many; the last one is whole as well.
        """
        first = self._first(period)
        day = self._day(first.c.at)
        nth = func.row_number().over(partition_by=day, order_by=(first.c.at, first.c.id)) - 1
        numbered = select(first.c.id, first.c.at, day.label("day"), (nth // rows).label("run")).subquery()
        lot = func.first_value(_end(numbered.c.id)).over(
            partition_by=(numbered.c.day, numbered.c.run), order_by=(numbered.c.at, numbered.c.id)
        )
        drawn = select(numbered, lot.label("lot")).subquery().c
        query = select(drawn.id, drawn.at, drawn.day, drawn.run).limit(limit + rows)
        query = query.order_by(drawn.lot, drawn.day, drawn.run, drawn.at, drawn.id)
        with self._database.read() as connection:
            found = list(connection.execute(query))
        last = found[limit - 1][2:] if len(found) > limit else None
        kept = found[:limit] + [row for row in found[limit:] if row[2:] == last]
        return sorted((Seen(row.id, float(row.at)) for row in kept), key=lambda seen: (seen.at, seen.id))

    def rows(self, seen: Sequence[Seen]) -> list[Watched]:
        """Return the requests that are still there of those, in their order."""
        found: dict[str, Watched] = {}
        for start in range(0, len(seen), _IDS_AT_ONCE):
            ids = [each.id for each in seen[start : start + _IDS_AT_ONCE]]
            with self._database.read() as connection:
                for row in connection.execute(self._whole(ids)):
                    known = RequestRow(**{name: getattr(row, name) for name in _FIELDS})
                    told = known.unit is not None and known.status in (200, 499)
                    found[known.id] = Watched(known, bool(row.asked_again) if told else None)
        return [found[each.id] for each in seen if each.id in found]

    def _whole(self, ids: Sequence[str]) -> Select[Any]:
        rows, later = request_rows.c, request_rows.alias("later")
        ended = rows.at + func.coalesce(rows.latency_ms, 0.0) / 1000
        again = (
            select(later.c.id)
            .where(later.c.route == rows.route, later.c.unit == rows.unit, later.c.internal.is_(False))
            .where(later.c.at >= ended, later.c.at <= ended + AGAIN_WITHIN_S, later.c.id != rows.id)
            .exists()
        )
        columns = [rows[name] for name in _FIELDS]
        return select(*columns, again.label("asked_again")).where(rows.id.in_(ids))

    def _first(self, period: Period) -> Subquery:
        """Select the first prompt of each subject on each day, of the whole days that a period touches."""
        rows = request_rows.c
        days = period._replace(since=period.since - period.since % _DAY_S)
        nth = func.row_number().over(
            partition_by=(func.coalesce(rows.unit, rows.id), self._day(rows.at)), order_by=(rows.at, rows.id)
        )
        every = select(rows.id, rows.at, nth.label("nth")).where(*_inside(days)).subquery()
        return select(every.c.id, every.c.at).where(every.c.nth == 1, every.c.at >= period.since).subquery()

    def _day(self, at: ColumnElement[Any]) -> ColumnElement[Any]:
        # SQLite's cast cuts off and PostgreSQL's rounds; not every SQLite has floor().
        return cast(at / _DAY_S, Integer) if self._sqlite else func.floor(at / _DAY_S)


class Rated(NamedTuple):
    """One rating: of which request, sent when, of which metric, and what it says."""

    id: int
    request_id: str
    metric: str
    value: bool | float | str
    at: float
    exposed_at: float


class RatedTraffic:
    """The feedback table, read for the watch: at most one rating a subject, day and metric, the first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sqlite = database.url.startswith("sqlite")

    def metrics(self, period: Period) -> list[str]:
        """Return the metrics that requests of a period were rated by."""
        with self._database.read() as connection:
            query = select(feedback.c.metric).where(*_rated(period)).distinct().order_by(feedback.c.metric)
            return list(connection.execute(query).scalars())

    def rows(
        self, period: Period, metric: str, *, before: float, after_id: int = 0, limit: int
    ) -> list[Rated]:
        """Return ratings of a period's requests that came after one and before a time, oldest first."""
        first = self._first(period, metric, before)
        return self._read(
            select(first).where(first.c.id > after_id).order_by(first.c.id).limit(limit), metric
        )

    def sample(self, period: Period, metric: str, *, before: float, limit: int) -> list[Rated]:
        """Return at most `limit` ratings of a period's requests from before a time, oldest first.

        Where there are more, they are drawn by the random end of their requests' ids, from the whole period.
        """
        first = self._first(period, metric, before)
        query = select(first).order_by(_end(first.c.request_id), first.c.id).limit(limit)
        return sorted(self._read(query, metric))

    def totals(self, period: Period, metric: str, *, before: float) -> Totals:
        """Return how many ratings of a period's requests there are from before a time, and the last one."""
        first = self._first(period, metric, before)
        query = select(func.count(), func.coalesce(func.max(first.c.id), 0)).select_from(first)
        with self._database.read() as connection:
            count, last_id = connection.execute(query).one()
        return Totals(int(count), int(last_id))

    def _read(self, query: Select[Any], metric: str) -> list[Rated]:
        with self._database.read() as connection:
            return [
                Rated(row.id, row.request_id, metric, row.value, float(row.at), float(row.exposed_at))
                for row in connection.execute(query)
            ]

    def _first(self, period: Period, metric: str, before: float) -> Subquery:
        rows = feedback.c
        day = (
            cast(rows.exposed_at / _DAY_S, Integer) if self._sqlite else func.floor(rows.exposed_at / _DAY_S)
        )
        nth = func.row_number().over(
            partition_by=(func.coalesce(rows.unit, rows.request_id), day), order_by=rows.id
        )
        days = period._replace(since=period.since - period.since % _DAY_S)
        columns = (rows.id, rows.request_id, rows.value, rows.at, rows.exposed_at, nth.label("nth"))
        every = select(*columns).where(*_rated(days), rows.metric == metric, rows.at < before).subquery()
        return select(every).where(every.c.nth == 1, every.c.exposed_at >= period.since).subquery()


def _end(request_id: ColumnElement[str]) -> ColumnElement[str]:
    """Select the random end of a request's id."""
    return func.substr(request_id, func.length(request_id) - 7)


def _inside(period: Period) -> tuple[ColumnElement[bool], ...]:
    rows = request_rows.c
    wanted = (
        rows.route == period.route,
        rows.at >= period.since,
        rows.at < period.until,
        rows.internal.is_(False),
        rows.prompt.is_not(None),
    )
    return wanted if period.adapter is None else (*wanted, rows.adapter == period.adapter)


def _rated(period: Period) -> tuple[ColumnElement[bool], ...]:
    rows = feedback.c
    wanted = (
        rows.route == period.route,
        rows.at >= period.since,  # a rating comes after its request; the index is by this
        rows.exposed_at >= period.since,
        rows.exposed_at < period.until,
        rows.internal.is_(False),
    )
    return wanted if period.adapter is None else (*wanted, rows.adapter == period.adapter)
