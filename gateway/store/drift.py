"""Verdicts of the drift monitor, which runs as a process of its own."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from gateway.store.database import Database
from gateway.store.schema import drift


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One verdict on one route, and where its report lies."""

    at: float
    route: str
    verdict: str
    figures: dict[str, Any]
    report_html: str | None
    report_json: str | None


class Drift:
    """The drift table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: DriftRow) -> None:
        """Store one verdict."""
        with self._database.write() as connection:
            connection.execute(
                insert(drift).values(
                    at=row.at,
                    route=row.route,
                    verdict=row.verdict,
                    figures=row.figures,
                    report_html=row.report_html,
                    report_json=row.report_json,
                )
            )

    def rows(self, route: str | None = None, *, limit: int = 100) -> list[DriftRow]:
        """Return verdicts, newest first."""
        query = select(drift).order_by(drift.c.id.desc()).limit(limit)
        if route is not None:
            query = query.where(drift.c.route == route)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def latest(self) -> list[DriftRow]:
        """Return the newest verdict of each route."""
        newest = select(func.max(drift.c.id)).group_by(drift.c.route)
        with self._database.read() as connection:
            rows = connection.execute(select(drift).where(drift.c.id.in_(newest)).order_by(drift.c.route))
            return [_row(row) for row in rows]


def _row(row: Any) -> DriftRow:
    return DriftRow(row.at, row.route, row.verdict, row.figures, row.report_html, row.report_json)
