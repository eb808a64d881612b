"""Curated rows: proposed once, decided on by people, and which runs have used which.

A row is proposed only while the feedback that it rests on is stored, and used only while it is there itself,
each looked at in the transaction that writes: what was forgotten meanwhile does not come back.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from gateway.core.curation import (
    HELD_OUT_SHARE,
    OPEN,
    STATE_OF,
    CuratedRow,
    Part,
    Split,
    State,
    Verdict,
    counted,
)
from gateway.store import events
from gateway.store.database import Database, retried
from gateway.store.schema import curated_rows, curated_uses, feedback

AT_ONCE = 500
_FIELDS = tuple(field.name for field in fields(CuratedRow))


class RowsGone(Exception):
    """Rows that were to be used are not there any more, or do not count any more."""


class Curation:
    """The tables of curated rows and of their uses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def propose(self, rows: Sequence[CuratedRow]) -> int:
        """Store rows that are not there yet, and return how many were new.

        Of a known row, what nobody has decided on and no run has used becomes what is said now; any other
        stays as it is, but comes to rest on a trusted key that says the same. One that was used without a
        review waits for a person again.
        """
        return sum(self._propose(rows[at : at + AT_ONCE]) for at in range(0, len(rows), AT_ONCE))

    def _propose(self, rows: Sequence[CuratedRow]) -> int:
        return retried(lambda: self._insert(rows))

    def _insert(self, rows: Sequence[CuratedRow]) -> int:
        with self._database.write() as connection:
            wanted = {each for row in rows for each in (row.request_id, row.other_id) if each}
            # Who removes the feedback waits for this transaction, and then sees what it has stored.
            there = select(feedback.c.request_id).where(feedback.c.request_id.in_(wanted))
            rated = set(connection.execute(there.with_for_update(read=True)).scalars())
            ids = select(curated_rows.c.id).where(curated_rows.c.id.in_([row.id for row in rows]))
            known = set(connection.execute(ids).scalars())
            new = [
                asdict(row)
                for row in rows
                if row.id not in known
                and row.request_id in rated
                and (row.other_id or row.request_id) in rated
            ]
            if new:
                connection.execute(insert(curated_rows), new)
            used = select(curated_uses.c.row_id).where(curated_uses.c.row_id.in_(known))
            fixed = set(connection.execute(used).scalars())
            for row in rows:
                if row.id in known:
                    _renew(connection, row, used=row.id in fixed)
            _move(connection, sorted(known), "unreviewed", "proposed")
            return len(new)

    def withdraw(self, route: str, *, keep: Collection[str]) -> int:
        """Remove a route's proposed rows that no run uses, but those to keep; return how many it were.

        Those that one has used stay, and wait for nobody any more.
        """
        gone, after = 0, ""
        while page := self.page(route, states=("proposed",), after=after):
            after = page[-1].id
            idle = [row.id for row in page if row.id not in keep]
            with self._database.write() as connection:
                used = select(curated_uses.c.row_id).where(curated_uses.c.row_id.in_(idle))
                row = curated_rows.c
                free = row.id.in_(idle) & row.id.not_in(used) & (row.state == "proposed")
                gone += connection.execute(delete(curated_rows).where(free)).rowcount
                _move(connection, idle, "proposed", "unreviewed")
        return gone

    def get(self, row_id: str) -> CuratedRow | None:
        """Return one row."""
        with self._database.read() as connection:
            row = connection.execute(select(curated_rows).where(curated_rows.c.id == row_id)).one_or_none()
        return None if row is None else _row(row)

    def many(self, ids: Sequence[str]) -> dict[str, CuratedRow]:
        """Return rows by id, of those that are there."""
        found: dict[str, CuratedRow] = {}
        for at in range(0, len(ids), AT_ONCE):
            query = select(curated_rows).where(curated_rows.c.id.in_(ids[at : at + AT_ONCE]))
            with self._database.read() as connection:
                found.update((row.id, _row(row)) for row in connection.execute(query))
        return found

    def page(
        self,
        route: str,
        *,
        split: Split | None = None,
        states: Sequence[State] | None = None,
        after: str = "",
        limit: int = AT_ONCE,
    ) -> list[CuratedRow]:
        """Return rows of a route by id, from behind `after` on."""
        query = select(curated_rows).where(*_of(route, split, states), curated_rows.c.id > after)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.order_by(curated_rows.c.id).limit(limit))]

    def queue(
        self, route: str | None = None, *, state: State = "proposed", limit: int = 50, offset: int = 0
    ) -> list[CuratedRow]:
        """Return the rows in a state, the most novel first: what a person looks at."""
        novelty = func.coalesce(curated_rows.c.novelty, -1.0)
        query = select(curated_rows).where(curated_rows.c.state == state)
        if route is not None:
            query = query.where(curated_rows.c.route == route)
        query = query.order_by(novelty.desc(), curated_rows.c.id).limit(limit).offset(offset)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def counts(self, route: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """Return by route, split and state how many rows there are."""
        row = curated_rows.c
        query = select(row.route, row.split, row.state, func.count().label("count"))
        if route is not None:
            query = query.where(row.route == route)
        by_route: dict[str, list[Mapping[str, Any]]] = {}
        with self._database.read() as connection:
            for found in connection.execute(query.group_by(row.route, row.split, row.state)):
                by_route.setdefault(found.route, []).append(found._asdict())
        return {name: counted(rows) for name, rows in sorted(by_route.items())}

    def to_review(self) -> dict[str, int]:
        """Return by route how many rows wait for a person; routes without one are left out."""
        row = curated_rows.c
        query = select(row.route, func.count()).where(row.state == "proposed").group_by(row.route)
        with self._database.read() as connection:
            return {route: int(count) for route, count in connection.execute(query)}

    def learnable(self, route: str, *, since: float, most: int) -> int:
        """Return about how many requests since a time a run could train on: rated ones, and `most` at most.

        Those that will be held out are not counted, nor are ratings looked at one by one.
        """
        rating = feedback.c
        rated = select(rating.request_id).where(rating.route == route, rating.at >= since)
        rated = rated.where(rating.internal.is_(False), func.coalesce(rating.exposed_at, rating.at) >= since)
        some = rated.distinct().limit(math.ceil(most / (1 - HELD_OUT_SHARE)) + 1).subquery()
        with self._database.read() as connection:
            found = int(connection.execute(select(func.count()).select_from(some)).scalar_one())
        return min(most, int(found * (1 - HELD_OUT_SHARE)))

    def decide(
        self, ids: Sequence[str], verdict: Verdict, *, actor: str, why: str | None = None
    ) -> list[CuratedRow]:
        """Decide on rows, all of them or none, and return them as they are now.

        The event names the rows and holds no text of them, nor the verdict's reason, which may quote them:
        events stay, and rows may have to go. `why` is the event's own.

        Raises:
            RowsGone: one of them is not there.
        """
        state = STATE_OF[verdict.decision]
        changes: dict[str, Any] = {
            "state": state,
            "decided_by": str(actor),
            "decided_at": time.time(),
            "rubric": dict(verdict.rubric),
            "why": verdict.why,
        }
        texts = {"answer": verdict.answer, "rejected": verdict.rejected}
        changes.update((name, text) for name, text in texts.items() if text is not None)
        with self._database.write() as connection:
            same = curated_rows.c.id.in_(ids)
            before = {
                row.id: {"state": row.state, "route": row.route}
                for row in connection.execute(select(curated_rows).where(same).with_for_update())
            }
            if missing := [each for each in ids if each not in before]:
                raise RowsGone(f"there is no curated row {missing[0]!r}")
            connection.execute(update(curated_rows).where(same).values(**changes))
            events.record(
                connection,
                actor=actor,
                action=f"curation.{verdict.decision}",
                subject=", ".join(sorted({row["route"] for row in before.values()}))[:128],
                why=why,
                before=before,
                after={"state": state, "rubric": dict(verdict.rubric), "edited": verdict.decision == "edit"},
            )
            rows = connection.execute(select(curated_rows).where(same).order_by(curated_rows.c.id))
            return [_row(row) for row in rows]

    def use(self, run: str, uses: Mapping[str, Part]) -> None:
        """Record which rows a run uses, in place of what it was to use before. Nobody need review them then.

        Raises:
            RowsGone: one of them is not there any more, or was rejected.
        """
        with self._database.write() as connection:
            connection.execute(delete(curated_uses).where(curated_uses.c.run == run))
            ids = list(uses)
            for at in range(0, len(ids), AT_ONCE):
                some = ids[at : at + AT_ONCE]
                good = curated_rows.c.state != "rejected"
                there = select(curated_rows.c.id).where(curated_rows.c.id.in_(some), good)
                found = set(connection.execute(there.with_for_update(read=True)).scalars())
                if missing := [each for each in some if each not in found]:
                    raise RowsGone(f"{len(missing)} of the rows are gone, {missing[0]} among them")
                connection.execute(
                    insert(curated_uses), [{"run": run, "row_id": each, "part": uses[each]} for each in some]
                )
                _move(connection, some, "proposed", "unreviewed")

    def uses(
        self, run: str, *, after: str = "", part: Part | None = None, limit: int = AT_ONCE
    ) -> list[tuple[str, Part]]:
        """Return the rows that a run uses, and for what, by id, from behind `after` on."""
        use = curated_uses.c
        query = select(use.row_id, use.part).where(use.run == run, use.row_id > after)
        if part is not None:
            query = query.where(use.part == part)
        with self._database.read() as connection:
            return [
                (row.row_id, row.part) for row in connection.execute(query.order_by(use.row_id).limit(limit))
            ]

    def used(self, run: str, ids: Sequence[str]) -> set[str]:
        """Return which of some rows (at most `AT_ONCE`) a run uses."""
        query = select(curated_uses.c.row_id).where(curated_uses.c.run == run, curated_uses.c.row_id.in_(ids))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())


def _of(route: str, split: Split | None, states: Sequence[State] | None) -> list[ColumnElement[bool]]:
    wanted = [curated_rows.c.route == route]
    if split is not None:
        wanted.append(curated_rows.c.split == split)
    if states is not None:
        wanted.append(curated_rows.c.state.in_(states))
    return wanted


def _renew(connection: Connection, row: CuratedRow, *, used: bool) -> None:
    """Have a known row say what is said now, as far as nobody relies on what it said before."""
    mine = curated_rows.c.id == row.id
    if row.trusted:
        better = {"trusted": True, "key_id": row.key_id}
        same = mine & curated_rows.c.trusted.is_(False) & (curated_rows.c.answer == row.answer)
        connection.execute(update(curated_rows).where(same).values(**better))
    if not used:
        said = {name: getattr(row, name) for name in ("answer", "rejected", "key_id", "trusted")}
        free = mine & curated_rows.c.state.in_(OPEN) & (curated_rows.c.key_id != row.key_id)
        other = mine & curated_rows.c.state.in_(OPEN) & (curated_rows.c.answer != row.answer)
        connection.execute(update(curated_rows).where(or_(free, other)).values(**said))


def _move(connection: Connection, ids: Sequence[str], before: State, after: State) -> None:
    """Put rows that are in one state into another."""
    same = curated_rows.c.id.in_(ids) & (curated_rows.c.state == before)
    connection.execute(update(curated_rows).where(same).values(state=after))


def remove(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Remove rows with their uses, inside the caller's transaction; return the runs that had used them."""
    used = select(curated_uses.c.run).where(curated_uses.c.row_id.in_(ids)).distinct()
    runs = sorted(connection.execute(used).scalars())
    connection.execute(delete(curated_uses).where(curated_uses.c.row_id.in_(ids)))
    connection.execute(delete(curated_rows).where(curated_rows.c.id.in_(ids)))
    return runs


def _row(row: Any) -> CuratedRow:
    return CuratedRow(**{name: getattr(row, name) for name in _FIELDS})
