"""Recorded requests: written in batches, read in short ones."""

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import func, insert, or_, select

from gateway.core.requests import RequestRow
from gateway.store.database import Database
from gateway.store.schema import request_rows

_FIELDS = tuple(field.name for field in fields(RequestRow))
_values = attrgetter(*_FIELDS)


class Requests:
    """The requests table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def url(self) -> str:
        """The URL of the database, with its password."""
        return self._database.url

    def write(self, rows: Sequence[RequestRow]) -> None:
        """Store a batch in one transaction."""
        if not rows:
            return
        # Past SQLAlchemy's own preparation of each row, which costs four times the insert itself.
        statement = insert(request_rows).compile(dialect=self._database.dialect, column_keys=_FIELDS)
        values: list[Any] = [_values(row) for row in rows]
        if not statement.positional:
            values = [dict(zip(_FIELDS, row, strict=True)) for row in values]
        with self._database.write() as connection:
            connection.exec_driver_sql(str(statement), values)

    def find(self, request_id: str) -> RequestRow | None:
        """Return the request of that id, ours (`x-request-id`) or the one in the answer's body."""
        query = select(request_rows).where(
            or_(request_rows.c.id == request_id, request_rows.c.answer_id == request_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).one_or_none()
        return None if row is None else _row(row)

    def window(
        self,
        route: str,
        *,
        since: float = 0.0,
        until: float | None = None,
        limit: int = 10_000,
        with_prompt: bool = False,
    ) -> list[RequestRow]:
        """Return a route's requests of a period, oldest first, internal ones left out.

        `since` is inclusive, `until` exclusive; `with_prompt` leaves out rows whose text was not captured.
        """
        query = select(request_rows).where(
            request_rows.c.route == route, request_rows.c.at >= since, request_rows.c.internal.is_(False)
        )
        if until is not None:
            query = query.where(request_rows.c.at < until)
        if with_prompt:
            query = query.where(request_rows.c.prompt.is_not(None))
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.order_by(request_rows.c.at).limit(limit))]

    def usage(self, *, since: float = 0.0) -> list[dict[str, Any]]:
        """Return requests, errors and tokens by key, route and adapter since a time."""
        rows = request_rows
        by = (rows.c.key_id, rows.c.route, rows.c.adapter)
        query = (
            select(
                *by,
                func.count().label("requests"),
                func.count().filter(rows.c.status >= 400).label("errors"),
                func.coalesce(func.sum(rows.c.prompt_tokens), 0).label("prompt_tokens"),
                func.coalesce(func.sum(rows.c.completion_tokens), 0).label("completion_tokens"),
            )
            .where(rows.c.at >= since, rows.c.internal.is_(False))
            .group_by(*by)
            .order_by(*by)
        )
        with self._database.read() as connection:
            return [row._asdict() for row in connection.execute(query)]

    def by_arm(self, route: str, *, since: float = 0.0) -> list[dict[str, Any]]:
        """Return a route's requests by arm since a time, internal ones left out.

        `units` counts distinct sticky subjects, `unsticky` the requests without one, `errors` the answers
        with status 500 and above.
        """
        rows = request_rows
        query = (
            select(
                rows.c.arm,
                func.count().label("requests"),
                func.count(rows.c.unit.distinct()).label("units"),
                func.count().filter(rows.c.unit.is_(None)).label("unsticky"),
                func.count().filter(rows.c.status >= 500).label("errors"),
            )
            .where(rows.c.route == route, rows.c.at >= since)
            .where(rows.c.internal.is_(False), rows.c.arm.is_not(None))
            .group_by(rows.c.arm)
            .order_by(rows.c.arm)
        )
        with self._database.read() as connection:
            return [row._asdict() for row in connection.execute(query)]


def _row(row: Any) -> RequestRow:
    return RequestRow(**row._asdict())
