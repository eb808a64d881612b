"""Recorded requests: written in batches, read in short ones."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import compress, repeat
from operator import attrgetter, is_not
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    tuple_,
)

from gateway.core.requests import RequestRow
from gateway.core.signals import AGAIN_WITHIN_S, Signal, Told, signals
from gateway.experiments.units import Answer
from gateway.store.database import Database
from gateway.store.embeddings import Embeddings
from gateway.store.schema import request_rows
from gateway.store.shadows import ShadowPairs
from gateway.store.traffic import Traffic
from gateway.store.usage import Usage

_FIELDS = tuple(field.name for field in fields(RequestRow))
_FLAGS = ("streamed", "cold", "internal")
_OTHERS = tuple(name for name in _FIELDS if name not in _FLAGS)
_flags, _others, _values = attrgetter(*_FLAGS), attrgetter(*_OTHERS), attrgetter(*_FIELDS)
_OUR_ID = re.compile(r"req-[0-9a-f]+")
_BLOCKS = (30, 6, 1)
_BREATH_S = 1e-6
_ANSWERS_AT_ONCE = 10_000
_DAY_S = 86_400.0
_MOST_PACED = 50_000
_NOTHING = repeat(None)
_CLOCK_SLACK_S = 3600
"""How far a row's id and its time may be apart."""


class Requests:
    """The requests table.

    Beside it `pairs`, of answers of shadows, `usage`, sums by the hour, and `embeddings`, of prompts;
    `traffic` reads the requests for the watch.
    """

    def __init__(self, database: Database) -> None:
        self.database = self._database = database
        self.pairs = ShadowPairs(database)
        self.usage = Usage(database)
        self.embeddings = Embeddings(database)
        self.traffic = Traffic(database)

    @property
    def url(self) -> str:
        """The URL of the database, with its password."""
        return self._database.url

    def write(self, rows: Sequence[RequestRow]) -> None:
        """Store a batch in one transaction."""
        if not rows:
            return
        with self._database.write() as connection:
            if connection.dialect.name == "sqlite":
                _insert_in_blocks(connection, rows)
            else:
                values = [dict(zip(_FIELDS, _values(row), strict=True)) for row in rows]
                connection.execute(insert(request_rows), values)

    def find(self, request_id: str) -> RequestRow | None:
        """Return the request of that id, ours (`x-request-id`) or the one in the answer's body."""
        ours = [request_id, *_OUR_ID.findall(request_id)]
        rows = request_rows
        with self._database.read() as connection:
            for row in connection.execute(select(rows).where(rows.c.id.in_(ours))):
                if request_id in (row.id, row.answer_id):
                    return _row(row)
            position = func.instr if connection.dialect.name == "sqlite" else func.strpos
            strange = position(rows.c.answer_id, rows.c.id) == literal_column("0")  # the index's own words
            query = select(rows).where(rows.c.answer_id == request_id, strange).limit(1)
            found = connection.execute(query).one_or_none()
        return None if found is None else _row(found)

    def many(self, ids: Sequence[str]) -> dict[str, RequestRow]:
        """Return some requests by our ids, of those that are there."""
        query = select(request_rows).where(request_rows.c.id.in_(ids))
        with self._database.read() as connection:
            return {row.id: _row(row) for row in connection.execute(query)}

    def remove(self, ids: Sequence[str]) -> None:
        """Remove requests with what hangs on them."""
        with self._database.write() as connection:
            connection.execute(delete(request_rows).where(request_rows.c.id.in_(ids)))

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

    def signals(
        self, route: str, *, since: float, until: float | None = None, limit: int | None = None
    ) -> list[Signal]:
        """Return the implicit signals of a route's requests of a period, internal requests left out.

        `since` is inclusive, `until` exclusive and by default now. With a `limit` only so many requests, the
        last of the period, are looked at.
        """
        now = time.time()
        until = now if until is None else until
        rows = request_rows
        columns = [rows.c[name] for name in Told._fields]
        query = select(*columns).where(rows.c.route == route, rows.c.internal.is_(False))
        period = query.where(rows.c.at >= since, rows.c.at < until)
        if limit is not None:
            period = period.order_by(rows.c.at.desc()).limit(limit)
        with self._database.read() as connection:
            inside = [Told(*row) for row in connection.execute(period)]
            horizon = max((row.ended_at for row in inside), default=until) + AGAIN_WITHIN_S
            beyond = query.where(rows.c.at >= until, rows.c.at <= horizon)
            after = [Told(*row) for row in connection.execute(beyond)] if inside else []
        told = {row.id for row in inside}
        return [found for found in signals([*inside, *after], until=now) if found.request_id in told]

    def count(self, route: str, *, since: float, from_generation: int) -> int:
        """Return how many requests `answers` has to choose from."""
        query = select(func.count()).where(*_in_experiment(route, since, from_generation))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def units_per_day(self, route: str, *, now: float) -> float:
        """Return at what pace units come to a route, by the newest requests of the last day."""
        rows = request_rows
        newest = (
            select(rows.c.at, func.coalesce(rows.c.unit, rows.c.id).label("unit"))
            .where(rows.c.route == route, rows.c.at >= now - _DAY_S, rows.c.at <= now)
            .where(rows.c.arm.is_not(None), rows.c.internal.is_(False))
            .order_by(rows.c.at.desc())
            .limit(_MOST_PACED)
            .subquery()
        )
        query = select(func.count(newest.c.unit.distinct()), func.min(newest.c.at))
        with self._database.read() as connection:
            units, since = connection.execute(query).one()
        return float(units) / max(now - since, 1.0) * _DAY_S if units > 1 else 0.0

    def answers(
        self, route: str, *, since: float, from_generation: int, share: float = 1.0
    ) -> Iterator[Answer]:
        """Yield a route's requests as experiments need them, in short reads, internal ones left out.

        `since` is about when the experiment began, `from_generation` exactly. `share` is that of the units
        whose requests are wanted: always the same units, and those of a smaller share are among them.
        """
        rows = request_rows
        columns = [rows.c[name] for name in Answer._fields]
        query = select(*columns).where(*_in_experiment(route, since, from_generation))
        if share < 1:
            unit = func.coalesce(rows.c.unit, func.substr(rows.c.id, func.length(rows.c.id) - 7))
            query = query.where(func.substr(unit, 1, 8) < f"{int(share * 2**32):08x}")
        query = query.order_by(rows.c.at, rows.c.id).limit(_ANSWERS_AT_ONCE)
        after: tuple[float, str] | None = None
        while True:
            page = query
            if after is not None:
                page = query.where(tuple_(rows.c.at, rows.c.id) > tuple_(*map(literal, after)))
            with self._database.read() as connection:
                found = [Answer(*row) for row in connection.execute(page)]
            yield from found
            if len(found) < _ANSWERS_AT_ONCE:
                return
            after = (found[-1].at, found[-1].id)

    def by_adapter(self, labels: Sequence[str], *, since: float) -> dict[str, dict[str, int]]:
        """Return requests, errors and tokens of these versions since a time, internal requests left out.

        Versions that nobody asked for are not in the answer. Only rows from then on are read: ids begin with
        the time.
        """
        rows = request_rows
        first = f"req-{max(0, int(since) - _CLOCK_SLACK_S):08x}"
        query = (
            select(
                rows.c.adapter,
                func.count().label("requests"),
                func.count().filter(rows.c.status >= 400).label("errors"),
                func.coalesce(func.sum(rows.c.prompt_tokens), 0).label("prompt_tokens"),
                func.coalesce(func.sum(rows.c.completion_tokens), 0).label("completion_tokens"),
            )
            .where(rows.c.id >= first, rows.c.at >= since)
            .where(rows.c.adapter.in_(labels), rows.c.internal.is_(False))
            .group_by(rows.c.adapter)
        )
        with self._database.read() as connection:
            found = [row._asdict() for row in connection.execute(query)]
        return {str(row.pop("adapter")): row for row in found}

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


def _in_experiment(route: str, since: float, from_generation: int) -> tuple[ColumnElement[bool], ...]:
    rows = request_rows
    return (
        rows.c.route == route,
        rows.c.at >= since - _CLOCK_SLACK_S,
        rows.c.generation >= from_generation,
        rows.c.arm.is_not(None),
        rows.c.internal.is_(False),
    )


def _insert_in_blocks(connection: Connection, rows: Iterable[RequestRow]) -> None:
    """Insert rows, many with one statement, and bind nothing that is None, true or false.

    The driver gives up the interpreter's lock twice for each statement. With one for each row, this thread
    and the event loop's would hand the lock to each other all the time, at several times the price of the
    inserts. And it looks for an adapter of each None and each bool that is bound, which costs as much as to
    bind ten others.
    """
    alike: dict[tuple[bool, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        values = _others(row)
        alike.setdefault((*_flags(row), *map(is_not, values, _NOTHING)), []).append(values)
    for kind, group in alike.items():
        done = 0
        for size in _BLOCKS:
            while len(group) - done >= size:
                block = group[done : done + size]
                bound = tuple([value for values in block for value in values if value is not None])
                connection.exec_driver_sql(_insert(kind, size), bound)
                done += size
                if size == _BLOCKS[0]:
                    time.sleep(_BREATH_S)  # a turn for the event loop, where both are on one core


@lru_cache(maxsize=256)
def _insert(kind: tuple[bool, ...], rows: int) -> str:
    """Return the statement for so many rows of a kind: its flags, and which other fields have a value."""
    flags, given = kind[: len(_FLAGS)], kind[len(_FLAGS) :]
    names = [*_FLAGS, *compress(_OTHERS, given)]
    places = [str(int(flag)) for flag in flags] + ["?"] * sum(given)
    values = ", ".join([f"({', '.join(places)})"] * rows)
    return f"INSERT INTO requests ({', '.join(names)}) VALUES {values}"  # noqa: S608 - names of ours


def _row(row: Any) -> RequestRow:
    return RequestRow(**row._asdict())
