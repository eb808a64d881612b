"""Feedback on answers: durable before it is acknowledged."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select

from gateway.store.database import Database
from gateway.store.schema import feedback


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One rating of one request. `value` is a bool, a number or a string."""

    request_id: str
    route: str | None
    adapter: str
    arm: str | None
    metric: str
    value: bool | float | str
    comment: str | None
    key_id: str
    at: float = 0.0


class Feedback:
    """The feedback table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: FeedbackRow) -> None:
        """Store one rating; it is on the disk when this returns."""
        with self._database.write() as connection:
            connection.execute(
                insert(feedback).values(
                    at=row.at or time.time(),
                    request_id=row.request_id,
                    route=row.route,
                    adapter=row.adapter,
                    arm=row.arm,
                    metric=row.metric,
                    value=row.value,
                    comment=row.comment,
                    key_id=row.key_id,
                )
            )

    def rows(self, route: str, *, since: float = 0.0, until: float | None = None) -> list[FeedbackRow]:
        """Return a route's ratings, oldest first. `since` is inclusive, `until` exclusive."""
        query = select(feedback).where(feedback.c.route == route, feedback.c.at >= since)
        if until is not None:
            query = query.where(feedback.c.at < until)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.order_by(feedback.c.at))]


def _row(row: Any) -> FeedbackRow:
    return FeedbackRow(
        request_id=row.request_id,
        route=row.route,
        adapter=row.adapter,
        arm=row.arm,
        metric=row.metric,
        value=row.value,
        comment=row.comment,
        key_id=row.key_id,
        at=row.at,
    )
