"""Limits in the store: who has which, what each worker claims of them, and what budgets have been spent."""

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, text, update

from gateway.core.limits import Limits
from gateway.store import clock, events
from gateway.store.database import Database
from gateway.store.schema import keys, limit_claims, limits, token_use

_LOCK = 0x7475726E6F7574
"""Workers exchange one after the other; SQLite's writers do so anyway."""

_DAYS_KEPT = 62
_MONTHS_KEPT = 26
_DAY_S = 86_400.0

Said = Mapping[str, tuple[int, int, bool]]
"""What a worker says, by limit: used, held, and whether it was short."""


class ClaimRow(NamedTuple):
    """What one worker has said last; `turn` grows each time it says something."""

    worker: str
    turn: int
    said: Mapping[str, Any]


class Period(NamedTuple):
    """A day or a month of UTC, by the store's clock, and in how many seconds it ends."""

    name: str
    left_s: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What budgets have been spent in the present periods, by (scope, name, kind)."""

    totals: Mapping[tuple[str, str, str], int]
    periods: Mapping[str, Period]


class LimitStore:
    """The tables of limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- who has which ------------------------------------------------------------------------------------

    def documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the limits of tenants and routes, and those that keys have by default, by scope and name."""
        with self._database.read() as connection:
            rows = connection.execute(select(limits).order_by(limits.c.scope, limits.c.name))
            return {(row.scope, row.name): row.document for row in rows}

    def put(self, scope: str, name: str, wanted: Limits | None, *, actor: str, why: str | None) -> bool:
        """Set the limits of a tenant, a route or a key; None takes them away. False: there is no such key.

        What is there already is left alone, and leaves no event.
        """
        with self._database.write() as connection:
            of_a_key = scope == "key" and name != "*"
            row = connection.execute(
                select(keys.c.limits).where(keys.c.id == name)
                if of_a_key
                else select(limits.c.document).where(limits.c.scope == scope, limits.c.name == name)
            ).one_or_none()
            if of_a_key and row is None:
                return False
            before = None if row is None else row[0]
            after = None if wanted is None else wanted.document()
            if (before or None) == (after or None):
                return True
            if of_a_key:
                connection.execute(update(keys).where(keys.c.id == name).values(limits=after))
            else:
                same = (limits.c.scope == scope) & (limits.c.name == name)
                connection.execute(delete(limits).where(same))
                if after:
                    connection.execute(insert(limits).values(scope=scope, name=name, document=after))
            events.record(
                connection,
                actor=actor,
                action="limits.set",
                subject=f"{scope}:{name}",
                why=why,
                before=before,
                after=after,
            )
            return True

    # --- what workers exchange ----------------------------------------------------------------------------

    def exchange(
        self,
        worker: str,
        turn: int,
        decide: Callable[[list[ClaimRow]], tuple[Said, Collection[tuple[str, int]]]],
        *,
        spend: Mapping[tuple[str, str, str], int],
    ) -> Spent:
        """Say what this worker claims, in view of what all others do; nobody else exchanges meanwhile.

        `decide` gets what the others have said, and returns what this one says and which (worker, turn) are
        gone. `spend` adds tokens to budgets by (scope, name, kind); an amount of 0 only asks.

        Raises:
            StoreUnavailable: the store can't be reached, and nothing was said.
        """
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            rows = [
                ClaimRow(row.worker, row.turn, row.said)
                for row in connection.execute(select(limit_claims))
                if row.worker != worker
            ]
            said, gone = decide(rows)
            done = connection.execute(
                update(limit_claims).where(limit_claims.c.worker == worker).values(turn=turn, said=dict(said))
            )
            if done.rowcount == 0:
                connection.execute(insert(limit_claims).values(worker=worker, turn=turn, said=dict(said)))
            for other, last in gone:
                connection.execute(
                    delete(limit_claims).where(limit_claims.c.worker == other, limit_claims.c.turn == last)
                )
            periods = _periods(clock.now(connection))
            totals = {
                budget: _spend(connection, budget, periods[budget[2]].name, tokens)
                for budget, tokens in spend.items()
            }
        return Spent(totals, periods)

    def forget(self, worker: str) -> None:
        """Remove what a worker has said, when nothing of it counts any more."""
        with self._database.write() as connection:
            connection.execute(delete(limit_claims).where(limit_claims.c.worker == worker))

    def spent(self) -> Spent:
        """Return what every budget has been spent in the present periods."""
        with self._database.read() as connection:
            periods = _periods(clock.now(connection))
            kinds = {period.name: kind for kind, period in periods.items()}
            rows = connection.execute(select(token_use).where(token_use.c.period.in_(kinds)))
            totals = {(row.scope, row.name, kinds[row.period]): int(row.tokens) for row in rows}
        return Spent(totals, periods)


def _periods(now: float) -> dict[str, Period]:
    """Return the present day and month by kind of budget."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    next_month = (month + dt.timedelta(days=32)).replace(day=1)
    return {
        "day": Period(f"{day:%Y-%m-%d}", day.timestamp() + _DAY_S - now),
        "month": Period(f"{month:%Y-%m}", next_month.timestamp() - now),
    }


def _spend(connection: Connection, budget: tuple[str, str, str], period: str, tokens: int) -> int:
    """Add tokens to a budget, which never falls below nothing; return what it has been spent."""
    scope, name, _ = budget
    mine = (token_use.c.scope == scope) & (token_use.c.name == name)
    same = mine & (token_use.c.period == period)
    known = connection.execute(select(token_use.c.tokens).where(same)).scalar_one_or_none()
    total = max(0, (known or 0) + tokens)
    if known is not None and total != known:
        connection.execute(update(token_use).where(same).values(tokens=total))
    elif known is None and total:
        connection.execute(insert(token_use).values(scope=scope, name=name, period=period, tokens=total))
        kept = sorted(
            connection.execute(select(token_use.c.period).where(mine)).scalars(),
            key=lambda one: (len(one), one),
        )
        old = [one for one in kept if len(one) == len(period)]
        old = old[: -(_DAYS_KEPT if len(period) > len("2026-01") else _MONTHS_KEPT)]
        if old:
            connection.execute(delete(token_use).where(mine & token_use.c.period.in_(old)))
    return total
