"""From versions to the requests they learned from, and back.

A version's manifest names the run of the loop that made it; the run's uses name its rows, and these their
requests. A version that was trained by hand on `turnout:ROUTE` names the route alone, and so may have learned
from any of its requests of before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, or_, select

from gateway.core.curation import Part
from gateway.core.refs import VersionRef
from gateway.store.database import Database
from gateway.store.schema import curated_rows, curated_uses, versions

SCHEME = "turnout:"
AT_ONCE = 500
_FACTS = (
    "recipe", "data_source", "data_terms", "data_fingerprint", "rows", "parent", "loop_run", "drift_id",
    "curated_fingerprint", "code_version",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowUse:
    """A row that a run used: for what, and the request it came from."""

    row_id: str
    part: Part
    route: str
    kind: str
    state: str
    trusted: bool
    request_id: str
    other_id: str | None


@dataclass(frozen=True, slots=True)
class RequestUse:
    """A row that a request became a part of, and the runs and versions that used it."""

    row_id: str
    kind: str
    split: str
    state: str
    runs: Mapping[str, Part]
    versions: Mapping[str, Sequence[str]]


class Lineages:
    """Looks up lineage in the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def facts(self, ref: VersionRef) -> dict[str, Any] | None:
        """Return what a version's manifest says of its lineage, without the embeddings; None without any."""
        query = select(versions.c.manifest["lineage"].label("lineage")).where(
            versions.c.name == ref.name, versions.c.version == ref.version
        )
        with self._database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else {name: found.get(name) for name in _FACTS}

    def parts(self, run: str) -> dict[str, int]:
        """Return how many rows a run used, by what for."""
        query = select(curated_uses.c.part, func.count()).where(curated_uses.c.run == run)
        with self._database.read() as connection:
            return {part: count for part, count in connection.execute(query.group_by(curated_uses.c.part))}  # noqa: C416 - rows are no pairs to mypy

    def rows(self, run: str, *, after: str = "", limit: int = 100) -> list[RowUse]:
        """Return rows that a run used, by id, from behind `after` on."""
        row, use = curated_rows.c, curated_uses.c
        query = (
            select(
                row.id, use.part, row.route, row.kind, row.state, row.trusted, row.request_id, row.other_id
            )
            .join(curated_uses, use.row_id == row.id)
            .where(use.run == run, row.id > after)
            .order_by(row.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [RowUse(*found) for found in connection.execute(query)]

    def versions_of(self, run: str) -> list[str]:
        """Return the versions that a run has made."""
        with self._database.read() as connection:
            return versions_of_runs(connection, [run]).get(run, [])

    def of_request(self, request_id: str) -> list[RequestUse]:
        """Return the rows that a request became a part of, with the runs and versions that used them."""
        row = curated_rows.c
        about = or_(row.request_id == request_id, row.other_id == request_id)
        with self._database.read() as connection:
            rows = list(connection.execute(select(curated_rows).where(about).order_by(row.id)))
            ids = [each.id for each in rows]
            uses = list(connection.execute(select(curated_uses).where(curated_uses.c.row_id.in_(ids))))
            made = versions_of_runs(connection, {use.run for use in uses})
        return [
            RequestUse(
                row_id=each.id,
                kind=each.kind,
                split=each.split,
                state=each.state,
                runs={use.run: use.part for use in uses if use.row_id == each.id},
                versions={use.run: made.get(use.run, []) for use in uses if use.row_id == each.id},
            )
            for each in rows
        ]

    def possible(self, route: str, at: float) -> list[str]:
        """Return the versions that were trained by hand on a route's traffic after that time."""
        with self._database.read() as connection:
            return versions_of_routes(connection, {route: at})


def versions_of_runs(connection: Connection, runs: Iterable[str]) -> dict[str, list[str]]:
    """Return by run the labels of the versions that it has made."""
    run = versions.c.manifest[("lineage", "loop_run")].as_string()
    found: dict[str, list[str]] = {}
    wanted = sorted(runs)
    for at in range(0, len(wanted), AT_ONCE):
        query = select(versions.c.name, versions.c.version, run).where(run.in_(wanted[at : at + AT_ONCE]))
        for name, number, by in connection.execute(query.order_by(versions.c.name, versions.c.version)):
            found.setdefault(by, []).append(f"{name}@{number}")
    return found


def versions_of_routes(connection: Connection, since: Mapping[str, float]) -> list[str]:
    """Return the versions whose rows were a route's recorded traffic, made after a time of that route."""
    source = versions.c.manifest[("lineage", "data_source")].as_string()
    wanted = {f"{SCHEME}{route}": at for route, at in since.items()}
    names = sorted(wanted)
    found = []
    for at in range(0, len(names), AT_ONCE):
        query = select(versions.c.name, versions.c.version, versions.c.created_at, source)
        query = query.where(source.in_(names[at : at + AT_ONCE]))
        for name, number, created_at, by in connection.execute(query):
            if created_at >= wanted[by]:
                found.append(f"{name}@{number}")
    return sorted(found)
