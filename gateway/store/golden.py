"""Golden sets: rows that people chose to judge a route's versions by, and how often they were used for that.

A set that candidates are chosen by again and again is learned by heart in the end, though no row of it is
trained on. So each run that is judged by it counts as one use, and a new set takes its place by rotation. The
rows of retired sets stay, and are not trained on either.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.store import events
from gateway.store.database import Database, retried
from gateway.store.schema import golden_rows, golden_sets, golden_uses

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One row: a prompt, the wanted answer, and by what its results are told apart (`slices`).

    `request_id` and `unit` are those of the request that it came from, if it came from one.
    """

    id: str
    route: str
    number: int
    messages: Sequence[dict[str, str]]
    answer: str
    slices: dict[str, str]
    request_id: str | None = None
    unit: str | None = None
    added_at: float = 0.0
    added_by: str = ""


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """One set of a route, how many rows it has, and how many runs were judged by it."""

    route: str
    number: int
    created_at: float
    created_by: str
    retired_at: float | None
    rows: int
    uses: int


_FIELDS = tuple(field.name for field in fields(GoldenRow))


class Golden:
    """The tables of golden sets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sets(self, route: str | None = None) -> list[GoldenSet]:
        """Return the sets by route, the newest first."""
        which, row, use = golden_sets.c, golden_rows.c, golden_uses.c
        rows = select(func.count()).where(row.route == which.route, row.number == which.number)
        uses = select(func.count()).where(use.route == which.route, use.number == which.number)
        query = select(
            golden_sets, rows.scalar_subquery().label("rows"), uses.scalar_subquery().label("uses")
        )
        if route is not None:
            query = query.where(which.route == route)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(which.route, which.number.desc()))
            return [GoldenSet(**each._asdict()) for each in found]

    def current(self, route: str) -> GoldenSet | None:
        """Return the set that a route's versions are judged by now."""
        return next((each for each in self.sets(route) if each.retired_at is None), None)

    def add(
        self, rows: Sequence[GoldenRow], *, route: str, number: int, actor: str, why: str | None = None
    ) -> int:
        """Add rows to a set of a route that is made if it is not there; return how many were new.

        Raises:
            ValueError: the set is retired.
        """
        return retried(lambda: self._add(rows, route=route, number=number, actor=actor, why=why))

    def _add(self, rows: Sequence[GoldenRow], *, route: str, number: int, actor: str, why: str | None) -> int:
        now = time.time()
        with self._database.write() as connection:
            _require_open(connection, route, number, actor=actor, now=now)
            ids = [row.id for row in rows]
            query = select(golden_rows.c.id).where(golden_rows.c.id.in_(ids))
            known = set(connection.execute(query).scalars())
            new = {row.id: row for row in rows if row.id not in known}
            if new:
                before = {"set": number, "rows": _count(connection, route, number)}
                values = [{**asdict(row), "added_at": now, "added_by": str(actor)} for row in new.values()]
                connection.execute(insert(golden_rows), values)
                events.record(
                    connection,
                    actor=actor,
                    action="golden.add",
                    subject=route,
                    why=why,
                    before=before,
                    after={"set": number, "rows": before["rows"] + len(new)},
                )
            return len(new)

    def rotate(self, route: str, *, actor: str, why: str | None = None) -> int:
        """Retire a route's set and begin an empty one; return its number."""
        return retried(lambda: self._rotate(route, actor=actor, why=why))

    def _rotate(self, route: str, *, actor: str, why: str | None) -> int:
        now = time.time()
        with self._database.write() as connection:
            highest = select(func.max(golden_sets.c.number)).where(golden_sets.c.route == route)
            number = int(connection.execute(highest).scalar_one() or 0) + 1
            old = (golden_sets.c.route == route) & golden_sets.c.retired_at.is_(None)
            retired = connection.execute(select(func.max(golden_sets.c.number)).where(old)).scalar_one()
            before = None if retired is None else {"set": retired, "rows": _count(connection, route, retired)}
            connection.execute(update(golden_sets).where(old).values(retired_at=now))
            connection.execute(
                insert(golden_sets).values(route=route, number=number, created_at=now, created_by=str(actor))
            )
            events.record(
                connection,
                actor=actor,
                action="golden.rotate",
                subject=route,
                why=why,
                before=before,
                after={"set": number, "rows": 0},
            )
            return number

    def rows(
        self, route: str, number: int | None = None, *, after: str = "", limit: int = AT_ONCE
    ) -> list[GoldenRow]:
        """Return the rows of one set, or of all sets of a route, by id, from behind `after` on."""
        query = select(golden_rows).where(golden_rows.c.route == route, golden_rows.c.id > after)
        if number is not None:
            query = query.where(golden_rows.c.number == number)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(golden_rows.c.id).limit(limit))
            return [GoldenRow(**{name: getattr(row, name) for name in _FIELDS}) for row in found]

    def use(self, route: str, number: int, *, run: str, candidate: str | None = None) -> int:
        """Count a run that is judged by a set, once, and return how many there are now."""
        return retried(lambda: self._use(route, number, run=run, candidate=candidate))

    def _use(self, route: str, number: int, *, run: str, candidate: str | None) -> int:
        mine = (golden_uses.c.route == route) & (golden_uses.c.number == number)
        with self._database.write() as connection:
            known = select(golden_uses.c.run).where(mine, golden_uses.c.run == run)
            if connection.execute(known).first() is None:
                connection.execute(
                    insert(golden_uses).values(
                        route=route, number=number, run=run, candidate=candidate, at=time.time()
                    )
                )
            return int(connection.execute(select(func.count()).where(mine)).scalar_one())


def _count(connection: Connection, route: str, number: int) -> int:
    mine = (golden_rows.c.route == route) & (golden_rows.c.number == number)
    return int(connection.execute(select(func.count()).where(mine)).scalar_one())


def _require_open(connection: Connection, route: str, number: int, *, actor: str, now: float) -> None:
    query = select(golden_sets).where(golden_sets.c.route == route, golden_sets.c.number == number)
    known: Any = connection.execute(query).one_or_none()
    if known is None:
        connection.execute(
            insert(golden_sets).values(route=route, number=number, created_at=now, created_by=str(actor))
        )
    elif known.retired_at is not None:
        raise ValueError(f"set {number} of {route} is retired; rows are added to the present one")
