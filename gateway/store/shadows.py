"""Pairs of answers to one request: what the client got, and what a shadow version answered."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import func, insert, select

from gateway.store.database import Database
from gateway.store.schema import shadow_pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """One request and its two answers. `id` and `shadow_id` are recorded requests, the second is internal.

    `adapter` and `shadow` are version labels or `base`. Texts are None where none was kept or given; times
    are seconds since the epoch (`at`, the client's request) or milliseconds.
    """

    id: str
    shadow_id: str
    at: float
    endpoint: str
    route: str
    adapter: str
    shadow: str
    prompt: str | None
    answer: str | None
    shadow_answer: str | None
    shadow_status: int
    shadow_error: str | None
    finish_reason: str | None
    shadow_finish_reason: str | None
    completion_tokens: int | None
    shadow_completion_tokens: int | None
    latency_ms: float
    shadow_latency_ms: float


class ShadowPairs:
    """The table of pairs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, pair: Pair) -> None:
        """Store one pair."""
        with self._database.write() as connection:
            connection.execute(insert(shadow_pairs).values(**asdict(pair)))

    def rows(self, route: str, *, since: float = 0.0, limit: int = 100, offset: int = 0) -> list[Pair]:
        """Return a route's pairs since a time, newest first."""
        query = (
            select(*(shadow_pairs.c[name] for name in _FIELDS))
            .where(shadow_pairs.c.route == route, shadow_pairs.c.at >= since)
            .order_by(shadow_pairs.c.at.desc(), shadow_pairs.c.id)
        )
        with self._database.read() as connection:
            return [Pair(*row) for row in connection.execute(query.limit(limit).offset(offset))]

    def summary(self, route: str, *, since: float = 0.0) -> list[dict[str, Any]]:
        """Return by both versions how many pairs there are, and how their answers compare.

        `failed` shadows gave no answer; `same` answers are equal to the character, of `compared` pairs with
        both texts. Means are over the pairs with two answers.
        """
        pairs = shadow_pairs.c
        by = (pairs.adapter, pairs.shadow)
        good = pairs.shadow_status == 200
        both = pairs.answer.is_not(None) & pairs.shadow_answer.is_not(None)
        query = (
            select(
                *by,
                func.count().label("pairs"),
                func.count().filter(~good).label("failed"),
                func.count().filter(both).label("compared"),
                func.count().filter(pairs.answer == pairs.shadow_answer).label("same"),
                *(
                    func.avg(pairs[name]).filter(good).label(f"mean_{name}")
                    for name in (
                        "latency_ms",
                        "shadow_latency_ms",
                        "completion_tokens",
                        "shadow_completion_tokens",
                    )
                ),
            )
            .where(pairs.route == route, pairs.at >= since)
            .group_by(*by)
            .order_by(*by)
        )
        with self._database.read() as connection:
            return [
                {
                    name: float(value) if name.startswith("mean_") and value is not None else value
                    for name, value in row._asdict().items()
                }
                for row in connection.execute(query)
            ]


_FIELDS = tuple(field.name for field in fields(Pair))
