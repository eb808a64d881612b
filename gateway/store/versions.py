"""Adapter versions: numbered once, never changed, never numbered again."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update

from gateway.core.refs import VersionRef
from gateway.store import events
from gateway.store.database import Database, retried
from gateway.store.schema import names, versions
from gateway.store.uses import require_unused


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version as stored. `manifest` is the document of `adapters.manifest.Manifest`."""

    ref: VersionRef
    digest: str
    manifest: dict[str, Any]
    created_at: float
    retired_at: float | None


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What is known of a version without its manifest. `created_at` is seconds since the epoch."""

    digest: str
    created_at: float


class Versions:
    """The versions table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._active: tuple[Any, frozenset[VersionRef]] | None = None

    def add(
        self, name: str, digest: str, manifest: dict[str, Any], *, actor: str, why: str | None = None
    ) -> tuple[VersionRow, bool]:
        """Number a version of `name` and return it with whether it is new.

        The same digest under the same name is the same version; if that one was retired, it is active again.
        `manifest` gets `name` and `version` set. The first version of a name also gets a route of that
        name, with all traffic on it, unless such a route exists.
        """
        return retried(lambda: self._add(name, digest, manifest, actor=actor, why=why))

    def _add(
        self, name: str, digest: str, manifest: dict[str, Any], *, actor: str, why: str | None
    ) -> tuple[VersionRow, bool]:
        with self._database.write() as connection:
            known = connection.execute(
                select(versions).where(versions.c.name == name, versions.c.digest == digest)
            ).one_or_none()
            if known is not None:
                return _row(_restored(connection, known, actor=actor, why=why)), False
            ref = VersionRef(name, _next_number(connection, name))
            first = connection.execute(select(versions.c.name).where(versions.c.name == name)).first() is None
            document = {**manifest, "name": name, "version": ref.version}
            at = time.time()
            connection.execute(
                insert(versions).values(
                    name=name, version=ref.version, digest=digest, manifest=document, created_at=at
                )
            )
            events.record(
                connection, actor=actor, action="adapter.add", subject=str(ref), why=why, after=document
            )
            if first:
                events.ensure_first_route(connection, ref, actor=actor)
            return VersionRow(ref, digest, document, at, None), True

    def get(self, ref: VersionRef) -> VersionRow | None:
        """Return one version, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                select(versions).where(versions.c.name == ref.name, versions.c.version == ref.version)
            ).one_or_none()
        return None if row is None else _row(row)

    def before(self, ref: VersionRef) -> tuple[VersionRef, VersionFacts] | None:
        """Return the version before one, or None. A store that was restored has left numbers out."""
        query = select(versions.c.version, versions.c.digest, versions.c.created_at)
        query = query.where(versions.c.name == ref.name, versions.c.version < ref.version)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(versions.c.version.desc()).limit(1)).one_or_none()
        return row and (VersionRef(ref.name, row.version), VersionFacts(row.digest, row.created_at))

    def rows(
        self,
        name: str | None = None,
        *,
        limit: int = 1000,
        offset: int = 0,
        after: VersionRef | None = None,
    ) -> list[VersionRow]:
        """Return versions by name and number, newest number first within a name; `after` pages on."""
        query = select(versions).order_by(versions.c.name, versions.c.version.desc())
        if name is not None:
            query = query.where(versions.c.name == name)
        if after is not None:
            older = (versions.c.name == after.name) & (versions.c.version < after.version)
            query = query.where(or_(versions.c.name > after.name, older))
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def facts(self) -> dict[VersionRef, VersionFacts]:
        """Return the facts of every version, retired ones included; no manifest is read."""
        query = select(versions.c.name, versions.c.version, versions.c.digest, versions.c.created_at)
        with self._database.read() as connection:
            return {
                VersionRef(name, number): VersionFacts(digest, created_at)
                for name, number, digest, created_at in connection.execute(query)
            }

    def active(self) -> frozenset[VersionRef]:
        """Return every version that is not retired; the same object until that changes.

        Versions are only ever added, retired and restored, and each changes one of the three numbers that
        are compared: how many numbers were given out, how many versions are retired, and when they were.
        """
        given = select(func.sum(names.c.last_version))
        retired = select(func.count(), func.sum(versions.c.retired_at)).where(
            versions.c.retired_at.is_not(None)
        )
        # The versions are read after the numbers, so that they are never older than these say.
        with self._database.read() as connection:
            mark = (connection.execute(given).scalar_one(), *connection.execute(retired).one())
            known = self._active
            if known is not None and known[0] == mark:
                return known[1]
            rows = connection.execute(
                select(versions.c.name, versions.c.version).where(versions.c.retired_at.is_(None))
            )
            found = frozenset(VersionRef(name, number) for name, number in rows)
        self._active = (mark, found)
        return found

    def has_digest(self, digest: str) -> bool:
        """Whether any version, retired ones included, has that content."""
        with self._database.read() as connection:
            found = connection.execute(select(versions.c.name).where(versions.c.digest == digest).limit(1))
            return found.first() is not None

    def retire(
        self, ref: VersionRef, *, actor: str, why: str | None = None, unused_only: bool = False
    ) -> bool:
        """Mark a version as retired; False when there is no such active version.

        Raises:
            VersionInUse: `unused_only` is set, and a route names it or its traffic meets it.
        """
        with self._database.write() as connection:
            now = time.time()
            done = connection.execute(
                update(versions)
                .where(versions.c.name == ref.name, versions.c.version == ref.version)
                .where(versions.c.retired_at.is_(None))
                .values(retired_at=now)
            )
            if done.rowcount == 0:
                return False
            if unused_only:
                require_unused(connection, ref)
            events.record(
                connection,
                actor=actor,
                action="adapter.retire",
                subject=str(ref),
                why=why,
                before={"retired_at": None},
                after={"retired_at": now},
            )
            return True


def _restored(connection: Connection, known: Any, *, actor: str, why: str | None) -> Any:
    if known.retired_at is None:
        return known
    same = (versions.c.name == known.name) & (versions.c.version == known.version)
    connection.execute(update(versions).where(same).values(retired_at=None))
    ref = VersionRef(known.name, known.version)
    events.record(
        connection,
        actor=actor,
        action="adapter.restore",
        subject=str(ref),
        why=why,
        before={"retired_at": known.retired_at},
        after={"retired_at": None},
    )
    return connection.execute(select(versions).where(same)).one()


def _next_number(connection: Connection, name: str) -> int:
    taken = connection.execute(
        select(names.c.last_version).where(names.c.name == name).with_for_update()
    ).scalar_one_or_none()
    if taken is None:
        connection.execute(insert(names).values(name=name, last_version=1))
        return 1
    connection.execute(update(names).where(names.c.name == name).values(last_version=taken + 1))
    return int(taken) + 1


def _row(row: Any) -> VersionRow:
    return VersionRow(
        VersionRef(row.name, row.version), row.digest, row.manifest, row.created_at, row.retired_at
    )
