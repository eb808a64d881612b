"""Usage: requests, errors and tokens by key, tenant, route and version, an hour at a time.

Hours that are over are summed up once into a table of their own, which stays when the requests themselves are
pruned. What is younger is summed up from the requests in the same statement, so that a reader sees each
request exactly once, whatever is being summed up meanwhile. Hours are those of UTC; internal requests are
left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    String,
    cast,
    func,
    insert,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
    update,
)

from gateway.store.database import Database, WrittenMeanwhile
from gateway.store.schema import request_rows, usage_hours, usage_until

HOUR_S = 3600
DAY_S = 86_400
_CLOCK_SLACK_S = 300
"""How far a row's id, which begins with the time, and its `at` may be apart."""

Dimension = Literal["key", "tenant", "route", "version"]
Bucket = Literal["hour", "day"]
_COLUMNS: Mapping[Dimension, str] = {
    "key": "key_id",
    "tenant": "tenant",
    "route": "route",
    "version": "adapter",
}
_BY = tuple(_COLUMNS.values())
SUMS = ("requests", "errors", "prompt_tokens", "completion_tokens")


class Place(NamedTuple):
    """Where a page ends: the period and the groups' values of its last row, in their order."""

    at: int
    values: tuple[str, ...]


def hour_of(at: float) -> int:
    """Return the beginning of the hour that a time lies in."""
    return int(at // HOUR_S) * HOUR_S


def summed_up() -> ColumnElement[bool]:
    """Return what is true of requests whose hour is summed up, so that usage has no need of them any more."""
    return request_rows.c.at < func.coalesce(select(usage_until.c.until).scalar_subquery(), 0)


class Usage:
    """The usage of one requests database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def summed_until(self) -> int | None:
        """Return up to when hours are summed up; None before the first.

        Requests from before may be pruned: nothing looks at them for usage any more.
        """
        with self._database.read() as connection:
            return _until(connection)

    def sum_up(self, *, settled_until: float, most_hours: int = 168) -> int:
        """Sum up hours that ended by `settled_until`, when no request of theirs is still to be written.

        Returns how many hours; what is left is for the next call. Several callers at once do no harm: each
        hour is written by one of them.

        Raises:
            StoreUnavailable: the store can't be read or written.
        """
        for done in range(most_hours):
            with self._database.read() as connection:
                until = _until(connection)
                begin = _first_hour(connection) if until is None else until
                if begin is None or begin + HOUR_S > settled_until:
                    return done
                rows = [row._asdict() for row in connection.execute(_hour(connection, begin))]
            self._keep(rows, begin=begin, first=until is None)
        return most_hours

    def rows(
        self,
        by: Sequence[Dimension],
        *,
        since: float,
        until: float,
        bucket: Bucket | None = None,
        where: Mapping[Dimension, str] | None = None,
        limit: int = 1000,
        after: Place | None = None,
    ) -> list[dict[str, Any]]:
        """Return sums by `by` in the hours from `since` to before `until`, in order of time and groups.

        Each row has `at`, the beginning of its bucket (None without one), the columns of `by`, and `SUMS`.
        Where no route was asked for, the route is None. `after` is the last row of the page before.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        begin, end = hour_of(since), hour_of(until - 1) + HOUR_S if until > since else hour_of(since)
        chosen = [(_COLUMNS[name], value) for name, value in (where or {}).items()]
        with self._database.read() as connection:
            summed = _until(connection) or 0
            both = union_all(
                _of_hours(begin, end, chosen), _of_requests(connection, begin, end, chosen, summed=summed)
            ).subquery()
            size = {None: None, "hour": HOUR_S, "day": DAY_S}[bucket]
            at = literal(0, BigInteger) if size is None else both.c.hour - both.c.hour % size
            groups = [both.c[_COLUMNS[name]] for name in by]
            query = select(
                at.label("at"),
                *groups,
                *(cast(func.sum(both.c[name]), BigInteger).label(name) for name in SUMS),
            )
            if after is not None:
                last = [literal(after.at, BigInteger), *(literal(value, String) for value in after.values)]
                query = query.where(tuple_(at, *groups) > tuple_(*last))
            # Positions and not expressions: PostgreSQL does not see that a bound value is the same one twice.
            order = [_position(number) for number in range(1, len(groups) + 2)]
            query = query.group_by(*order).order_by(*order).limit(limit)
            found = [row._asdict() for row in connection.execute(query)]
        return [_shown(row, bucketed=bucket is not None) for row in found]

    def _keep(self, rows: list[dict[str, Any]], *, begin: int, first: bool) -> None:
        """Write the sums of an hour, unless somebody else has."""
        try:
            with self._database.write() as connection:
                if first:
                    connection.execute(insert(usage_until).values(id=1, until=begin + HOUR_S))
                else:
                    moved = connection.execute(
                        update(usage_until)
                        .where(usage_until.c.id == 1, usage_until.c.until == begin)
                        .values(until=begin + HOUR_S)
                    )
                    if moved.rowcount == 0:
                        return
                if rows:
                    connection.execute(insert(usage_hours), rows)
        except WrittenMeanwhile:
            return


def place_of(row: Mapping[str, Any], by: Sequence[Dimension]) -> Place:
    """Return where the page ends whose last row this is."""
    return Place(row["at"] or 0, tuple(row[_COLUMNS[name]] or "" for name in by))


def _position(number: int) -> ColumnElement[Any]:
    """Return the n-th column of a select, to group and order by."""
    return literal_column(str(number))


def _shown(row: dict[str, Any], *, bucketed: bool) -> dict[str, Any]:
    shown = {**row, "at": int(row["at"]) if bucketed else None}
    if "route" in shown:
        shown["route"] = shown["route"] or None
    return {**shown, **{name: int(row[name]) for name in SUMS}}


def _until(connection: Connection) -> int | None:
    found = connection.execute(select(usage_until.c.until)).scalar_one_or_none()
    return None if found is None else int(found)


def _first_hour(connection: Connection) -> int | None:
    """Return the hour to begin with: that of the first request, and its clock's slack."""
    oldest = select(request_rows.c.at).order_by(request_rows.c.id).limit(1)
    at = connection.execute(oldest).scalar_one_or_none()
    return None if at is None else hour_of(at - _CLOCK_SLACK_S)


def _hour(connection: Connection, begin: int) -> Select[Any]:
    return _of_requests(connection, begin, begin + HOUR_S, (), summed=0, beside_hours=False)


def _of_hours(begin: int, end: int, chosen: Sequence[tuple[str, str]]) -> Select[Any]:
    hours = usage_hours
    return select(hours.c.hour, *(hours.c[name] for name in _BY), *(hours.c[name] for name in SUMS)).where(
        hours.c.hour >= begin, hours.c.hour < end, *(hours.c[name] == value for name, value in chosen)
    )


def _of_requests(
    connection: Connection,
    begin: int,
    end: int,
    chosen: Sequence[tuple[str, str]],
    *,
    summed: int,
    beside_hours: bool = True,
) -> Select[Any]:
    """Return the sums of requests. Beside the hours' own only of what these do not have.

    How far the hours go is asked in the same statement; `summed`, read before, only spares reading rows.
    """
    rows = request_rows
    # The cast cuts off on SQLite and rounds on PostgreSQL.
    whole = rows.c.at / HOUR_S
    hour = cast(whole if connection.dialect.name == "sqlite" else func.floor(whole), BigInteger) * HOUR_S
    route = func.coalesce(rows.c.route, "")
    first, last = max(begin, summed) - _CLOCK_SLACK_S, end + _CLOCK_SLACK_S
    query = select(
        hour.label("hour"),
        rows.c.key_id,
        rows.c.tenant,
        route.label("route"),
        rows.c.adapter,
        func.count().label("requests"),
        func.count().filter(rows.c.status >= 400).label("errors"),
        func.coalesce(func.sum(rows.c.prompt_tokens), 0).label("prompt_tokens"),
        func.coalesce(func.sum(rows.c.completion_tokens), 0).label("completion_tokens"),
    ).where(
        rows.c.id >= f"req-{max(0, first):08x}",
        rows.c.id < f"req-{max(0, last):08x}",
        rows.c.at >= begin,
        rows.c.at < end,
        rows.c.internal.is_(False),
        *((route if name == "route" else rows.c[name]) == value for name, value in chosen),
    )
    if beside_hours:
        until = func.coalesce(select(usage_until.c.until).scalar_subquery(), 0)
        query = query.where(rows.c.at >= until)
    return query.group_by(_position(1), rows.c.key_id, rows.c.tenant, _position(4), rows.c.adapter)
