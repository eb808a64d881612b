"""Removes what was recorded of somebody, page by page, from both databases and from the files of runs.

Whatever leads to other rows goes last: the feedback, pairs, embeddings and curated rows of a request go
before the request itself. So it may end between any two lines, and be begun again, until nothing is left.
What had used the rows is noted in the transaction that removes them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, delete, func, null, or_, select

from gateway.store import curation, lineage, tombstones
from gateway.store.database import Database
from gateway.store.metadata import requests as requests_tables
from gateway.store.schema import curated_rows, curated_uses, feedback, golden_rows, request_rows, shadow_pairs
from gateway.store.tombstones import Tombstone, Tombstones

PAGE = 5_000
AT_ONCE = 500
STAGES = ("requests", "feedback", "curated", "golden", "files")

Matches = Callable[[str | None, float], bool]
"""Whether a row of a pseudonym, of a request at that time, is to go."""

Scrub = Callable[[Callable[[str], bool]], int]
"""Removes the rows of the pseudonyms that a predicate names from files, and returns how many they were."""


class _Seen(NamedTuple):
    key: Any
    unit: str | None
    at: float
    route: str | None
    other: str | None

    def about(self, matches: "Matches") -> bool:
        """Whether it is to go: a pair of answers is about the subjects of both."""
        return matches(self.unit, self.at) or (self.other is not None and matches(self.other, self.at))


class _Source(NamedTuple):
    """A table whose rows say whom they are about."""

    table: Table
    key: Column[Any]
    at: Any
    other: Any = null()


_SOURCES = {
    "requests": _Source(request_rows, request_rows.c.id, request_rows.c.at),
    "feedback": _Source(feedback, feedback.c.id, func.coalesce(feedback.c.exposed_at, feedback.c.at)),
    "curated": _Source(curated_rows, curated_rows.c.id, curated_rows.c.at, curated_rows.c.other_unit),
    "golden": _Source(golden_rows, golden_rows.c.id, golden_rows.c.added_at),
}


@dataclass
class _Found:
    """What a removal has found so far."""

    counts: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    routes: dict[str, float] = field(default_factory=dict)

    def meet(self, seen: Sequence[_Seen]) -> None:
        """Note on which routes rows were, and since when."""
        for row in seen:
            if row.route is not None:
                self.routes[row.route] = min(row.at, self.routes.get(row.route, row.at))


class Forgetting:
    """Removals in both databases. `scrub` removes rows from the files of this machine."""

    def __init__(self, control: Database, requests: Database, *, scrub: Scrub) -> None:
        self._control = control
        self._requests = requests
        self._scrub = scrub
        self._tombstones = Tombstones(control)

    def look(self, matches: Matches) -> Tombstone:
        """Return what would be removed, as a tombstone that is not stored. Nothing is changed."""
        found = _Found()
        for stage in STAGES[:-1]:
            for seen in self._pages(stage, after=None):
                these = [row for row in seen if row.about(matches)]
                found.counts[stage] += len(these)
                found.meet(these)
                if stage == "curated":
                    found.runs.update(self._runs([row.key for row in these]))
        nobody = Tombstone("", "", 0.0, "looked", dict(found.counts), sorted(found.runs), found.routes)
        return self._with_versions(nobody)

    def work(self, tombstone: Tombstone, matches: Matches, *, budget_s: float = float("inf")) -> Tombstone:
        """Remove what matches, from where the tombstone says on, for about so long; return how far it is.

        Raises:
            StoreUnavailable: a database does not answer. What was removed is gone; the rest waits.
            OSError: a file can't be written.
        """
        deadline = time.monotonic() + budget_s
        now = tombstone
        first = STAGES.index(now.cursor.get("stage", STAGES[0]))
        for stage in STAGES[first:-1]:
            after = now.cursor.get("after") if now.cursor.get("stage") == stage else None
            for seen in self._pages(stage, after=after):
                now = self._remove(stage, [row for row in seen if row.about(matches)], now)
                now = replace(now, cursor={"stage": stage, "after": str(seen[-1].key)})
                self._tombstones.store(now)
                if time.monotonic() >= deadline:
                    return now
        lines = self._scrub(lambda unit: matches(unit, now.until))
        now = _counted(now, {"lines_of_files": lines})
        now = replace(now, state="done", cursor={}, finished_at=time.time())
        now = self._with_versions(now)
        self._tombstones.store(now)
        return now

    def _pages(self, stage: str, *, after: str | None) -> Iterator[list[_Seen]]:
        source = _SOURCES[stage]
        database = self._requests if stage == "requests" else self._control
        place: Any = after if after is None or stage != "feedback" else int(after)
        columns = (source.key, source.table.c.unit, source.at, source.table.c.route, source.other)
        while True:
            query = select(*columns).order_by(source.key).limit(PAGE)
            if place is not None:
                query = query.where(source.key > place)
            with database.read() as connection:
                seen = [_Seen(*row) for row in connection.execute(query)]
            if seen:
                yield seen
            if len(seen) < PAGE:
                return
            place = seen[-1].key

    def _remove(self, stage: str, seen: Sequence[_Seen], tombstone: Tombstone) -> Tombstone:
        now = tombstone
        for at in range(0, len(seen), AT_ONCE):
            some = seen[at : at + AT_ONCE]
            found = _Found(runs=set(now.runs), routes=dict(now.routes))
            found.meet(some)
            ids = [row.key for row in some]
            shadows = self._shadows(ids) if stage == "requests" else []
            with self._control.write() as connection:
                _remove_from_control(connection, stage, [*ids, *shadows], found)
                now = _counted(now, found.counts)
                now = replace(now, runs=sorted(found.runs), routes=found.routes)
                tombstones.store(connection, now)
            if stage == "requests":
                now = _counted(now, self._remove_requests(ids, shadows))
        return now

    def _shadows(self, ids: Sequence[str]) -> list[str]:
        query = select(shadow_pairs.c.shadow_id).where(shadow_pairs.c.id.in_(ids))
        with self._requests.read() as connection:
            return list(connection.execute(query).scalars())

    def _remove_requests(self, ids: Sequence[str], shadows: Sequence[str]) -> Counter[str]:
        """Remove requests with everything beside them that has a column `request_id`, in one transaction."""
        every = [*ids, *shadows]
        counts: Counter[str] = Counter()
        with self._requests.write() as connection:
            for table in requests_tables.sorted_tables:
                if "request_id" in table.c:
                    gone = connection.execute(delete(table).where(table.c.request_id.in_(every)))
                    counts[table.name] += gone.rowcount
            pairs = delete(shadow_pairs).where(shadow_pairs.c.id.in_(ids))
            counts["shadow_pairs"] += connection.execute(pairs).rowcount
            rows = delete(request_rows).where(request_rows.c.id.in_(every))
            counts["requests"] += connection.execute(rows).rowcount
        return counts

    def _runs(self, ids: Sequence[str]) -> set[str]:
        with self._control.read() as connection:
            return {
                run for at in range(0, len(ids), AT_ONCE) for run in _runs(connection, ids[at : at + AT_ONCE])
            }

    def _with_versions(self, tombstone: Tombstone) -> Tombstone:
        """Add the versions that learned from the rows, and those that may have, as far as lineage tells."""
        with self._control.read() as connection:
            trained = lineage.versions_of_runs(connection, tombstone.runs)
            possible = lineage.versions_of_routes(connection, tombstone.routes)
        labels = sorted({label for found in trained.values() for label in found})
        versions = {"trained": labels, "possibly": [label for label in possible if label not in labels]}
        known = {name: [*tombstone.versions.get(name, ()), *found] for name, found in versions.items()}
        return replace(tombstone, versions={name: sorted(set(found)) for name, found in known.items()})


def _remove_from_control(connection: Connection, stage: str, ids: Sequence[Any], found: _Found) -> None:
    if stage == "feedback":
        gone = connection.execute(delete(feedback).where(feedback.c.id.in_(ids)))
        found.counts["feedback"] += gone.rowcount
        return
    if stage == "requests":
        gone = connection.execute(delete(feedback).where(feedback.c.request_id.in_(ids)))
        found.counts["feedback"] += gone.rowcount
    row = curated_rows.c
    about = row.id.in_(ids) if stage == "curated" else or_(row.request_id.in_(ids), row.other_id.in_(ids))
    if stage != "golden":
        rows = list(connection.execute(select(row.id).where(about)).scalars())
        found.runs.update(curation.remove(connection, rows))
        found.counts["curated_rows"] += len(rows)
    if stage != "curated":
        column = golden_rows.c.id if stage == "golden" else golden_rows.c.request_id
        gone = connection.execute(delete(golden_rows).where(column.in_(ids)))
        found.counts["golden_rows"] += gone.rowcount


def _runs(connection: Connection, ids: Sequence[str]) -> list[str]:
    used = select(curated_uses.c.run).where(curated_uses.c.row_id.in_(ids)).distinct()
    return list(connection.execute(used).scalars())


def _counted(tombstone: Tombstone, more: dict[str, int] | Counter[str]) -> Tombstone:
    counts = Counter(tombstone.counts)
    counts.update({name: count for name, count in more.items() if count})
    return replace(tombstone, counts=dict(counts))
