"""What the controller last found of each route's experiment. Readers see it without computing anything."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from gateway.store.database import Database
from gateway.store.lease import require_epoch
from gateway.store.schema import findings


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding, as of `at` (seconds since the epoch)."""

    route: str
    at: float
    figures: dict[str, Any]


class Findings:
    """The findings table: one row a route."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, route: str) -> Finding | None:
        """Return the last finding, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(findings).where(findings.c.route == route)).one_or_none()
        return None if row is None else Finding(**row._asdict())

    def newest(self, limit: int) -> list[Finding]:
        """Return the findings of the routes that were looked at last, by route."""
        query = select(findings).order_by(findings.c.at.desc()).limit(limit)
        with self._database.read() as connection:
            found = [Finding(**row._asdict()) for row in connection.execute(query)]
        return sorted(found, key=lambda finding: finding.route)

    def put(self, route: str, figures: dict[str, Any], *, epoch: int) -> None:
        """Replace a route's finding.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        values = {"at": time.time(), "figures": figures}
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            done = connection.execute(update(findings).where(findings.c.route == route).values(**values))
            if done.rowcount == 0:
                connection.execute(insert(findings).values(route=route, **values))
