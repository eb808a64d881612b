"""Feedback on answers: durable before it is acknowledged. Nothing is ever overwritten."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import func, insert, select

from gateway.store.database import Database
from gateway.store.schema import feedback


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One rating of one request. `value` is a bool, a number or a string.

    `unit`, `exposed_at` (when the request was made) and `internal` are the rated request's. `exposed_at` is
    None only in rows of old stores. `id` counts up, 0 until the row is stored.
    """

    request_id: str
    route: str | None
    adapter: str
    arm: str | None
    metric: str
    value: bool | float | str
    comment: str | None
    key_id: str
    at: float = 0.0
    unit: str | None = None
    exposed_at: float | None = None
    internal: bool = False
    id: int = 0


class Feedback:
    """The feedback table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, *rows: FeedbackRow) -> None:
        """Store ratings, all or none; they are on the disk when this returns."""
        now = time.time()
        values = [{**asdict(row), "at": row.at or now} for row in rows]
        for value in values:
            del value["id"]
        with self._database.write() as connection:
            connection.execute(insert(feedback), values)

    def rows(
        self, route: str, *, since: float = 0.0, until: float | None = None, internal: bool = False
    ) -> list[FeedbackRow]:
        """Return a route's ratings, oldest first. `since` is inclusive, `until` exclusive.

        Ratings of internal requests are left out unless they are asked for.
        """
        query = select(feedback).where(feedback.c.route == route, feedback.c.at >= since)
        if until is not None:
            query = query.where(feedback.c.at < until)
        if not internal:
            query = query.where(feedback.c.internal.is_(False))
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.order_by(feedback.c.at, feedback.c.id))]

    def last_id(self) -> int:
        """Return the id of the rating that was stored last; 0 before the first."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(feedback.c.id))).scalar_one() or 0)

    def after(self, route: str, after_id: int, *, until_id: int, limit: int) -> list[FeedbackRow]:
        """Return a route's ratings by id, from behind one on up to another, internal ones left out."""
        query = select(feedback).where(feedback.c.id > after_id, feedback.c.id <= until_id)
        query = query.where(feedback.c.route == route, feedback.c.internal.is_(False))
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.order_by(feedback.c.id).limit(limit))]

    def of(self, request_ids: Sequence[str], *, until_id: int) -> list[FeedbackRow]:
        """Return the ratings of some requests, oldest first, internal ones left out."""
        query = select(feedback).where(feedback.c.request_id.in_(request_ids), feedback.c.id <= until_id)
        with self._database.read() as connection:
            found = connection.execute(query.where(feedback.c.internal.is_(False)).order_by(feedback.c.id))
            return [_row(row) for row in found]

    def newest(
        self,
        route: str,
        *,
        metric: str | None = None,
        request_id: str | None = None,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[FeedbackRow]:
        """Return the ratings of a route that were stored last, newest first, internal ones among them."""
        query = select(feedback).where(feedback.c.route == route)
        if metric is not None:
            query = query.where(feedback.c.metric == metric)
        if request_id is not None:
            query = query.where(feedback.c.request_id == request_id)
        if before_id is not None:
            query = query.where(feedback.c.id < before_id)
        with self._database.read() as connection:
            return [
                _row(row) for row in connection.execute(query.order_by(feedback.c.id.desc()).limit(limit))
            ]


_FIELDS = tuple(field.name for field in fields(FeedbackRow))


def _row(row: Any) -> FeedbackRow:
    return FeedbackRow(**{name: getattr(row, name) for name in _FIELDS})
