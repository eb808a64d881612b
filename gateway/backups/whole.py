"""A back-up of everything that a start needs, taken while it serves, and the way back."""

import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from adapters.registry import digest_of
from gateway.backups import databases
from gateway.backups.databases import BackupFailed
from gateway.backups.folder import BLOBS, PEPPER, Contents, StoreCopy, copy_blob, copy_secret, sha256_of
from gateway.core.refs import VersionRef
from gateway.store import events, migrating
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema
from gateway.store.schema import (
    cold_requests,
    generations,
    leases,
    names,
    request_rows,
    versions,
    worker_usage,
    workers,
)

JUMP = 1_000_000
"""A restored store goes on this far above every generation that it knows of, so that no number is given
twice: gateways that ran on, and rows that they recorded, speak of generations that no back-up has seen."""

NUMBERS_JUMP = 1_000
"""The numbers of versions go on this far above the last one too: what was added after the copy was made had a
number as well, and late requests, logs and pinned names still speak of it."""

_SCHEMAS: tuple[Schema, ...] = ("control", "requests")
_NEWEST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts are: the stores' URLs by schema, the folder of adapters, and the pepper's file."""

    urls: dict[Schema, str]
    blob_root: Path
    pepper: Path

    @property
    def together(self) -> bool:
        """Whether both schemas are in one PostgreSQL database, of which one dump is enough."""
        return self.urls["control"] == self.urls["requests"]


def back_up(places: Places, target: Path, *, requests: bool = True, pepper: bool = True) -> Contents:
    """Write a back-up into a new folder; it is there whole or not at all.

    The control database is copied before the blobs: what it names was on the disk before it was named.

    Raises:
        BackupFailed: a part can't be copied.
        StoreUnavailable: a database does not answer.
        OSError: the folder can't be written.
    """
    if target.exists():
        raise BackupFailed(f"{target} exists; name a folder that does not")
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    scratch.mkdir(parents=True, mode=0o700)
    try:
        contents = _fill(places, scratch, requests=requests, pepper=pepper)
        contents.write(scratch)
        _sync(scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return contents


def restore(places: Places, source: Path) -> Contents:
    """Put a back-up where the settings say. Nothing may be there: what is there is never overwritten.

    Raises:
        BackupFailed: the back-up is damaged or newer than this Turnout, or something is in its way.
        StoreUnavailable: a database does not answer.
        OSError: a file can't be written.
    """
    contents = Contents.read(source)
    _require_known(contents)
    contents.verify(source)
    _require_room(places, contents)
    for digest in contents.blobs:
        name = digest.removeprefix("sha256:")
        if digest_of(source / BLOBS / name) != digest:
            raise BackupFailed(f"{source / BLOBS / name} is not what was backed up; use another back-up")
        copy_blob(source / BLOBS / name, places.blob_root / "blobs" / name)
    if PEPPER in contents.files:
        places.pepper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not places.pepper.exists():
            copy_secret(source / PEPPER, places.pepper)
    for schema in _SCHEMAS:
        if (copy := contents.stores.get(schema)) is not None and not (
            schema == "requests" and copy.file == contents.stores["control"].file
        ):
            _put_back(source / copy.file, copy, places.urls[schema])
    _begin_anew(places, contents)
    return contents


def _fill(places: Places, folder: Path, *, requests: bool, pepper: bool) -> Contents:
    stores: dict[str, StoreCopy] = {}
    at = time.time()
    for schema in _SCHEMAS:
        if schema == "control" or requests:
            stores[schema] = _copy(places, schema, folder)
    control = databases.open_database(places.urls["control"], "control")
    try:
        generation = ControlStore(control).generation()
        with control.read() as connection:
            rows = connection.execute(select(versions.c.digest, versions.c.retired_at)).all()
    finally:
        control.close()
    here = {row.digest for row in rows if _blob(places, row.digest).is_dir()}
    served = {row.digest for row in rows if row.retired_at is None}
    for digest in sorted(here):
        copy_blob(_blob(places, digest), folder / BLOBS / digest.removeprefix("sha256:"))
    if pepper and places.pepper.is_file():
        copy_secret(places.pepper, folder / PEPPER)
    names = sorted({store.file for store in stores.values()} | ({PEPPER} if pepper else set()))
    files = {name: folder / name for name in names if (folder / name).is_file()}
    return Contents(
        turnout=version("turnout"),
        at=at,
        generation=generation,
        stores=stores,
        files={name: (path.stat().st_size, sha256_of(path)) for name, path in files.items()},
        blobs=tuple(sorted(here)),
        missing=tuple(sorted(served - here)),
    )


def _blob(places: Places, digest: str) -> Path:
    return places.blob_root / "blobs" / digest.removeprefix("sha256:")


def _copy(places: Places, schema: Schema, folder: Path) -> StoreCopy:
    url = places.urls[schema]
    kind = databases.kind_of(url)
    database = databases.open_database(url, schema)
    try:
        if databases.is_empty(database):
            raise BackupFailed(f"there is no {schema} store to back up yet: `turnout serve` makes it")
        revision = databases.schema_in(database)
    finally:
        database.close()
    if kind == "sqlite":
        name = f"{schema}.db"
        databases.copy_sqlite(url, folder / name)
    else:
        name = "stores.dump" if places.together else f"{schema}.dump"
        if not (folder / name).exists():
            databases.dump_postgresql(url, folder / name)
    return StoreCopy(name, kind, revision)


def _require_known(contents: Contents) -> None:
    for schema in _SCHEMAS:
        copy = contents.stores.get(schema)
        if copy is not None and copy.schema is not None and copy.schema not in migrating.revisions(schema):
            raise BackupFailed(
                f"the back-up's {schema} store has the schema {copy.schema}, and this Turnout knows up to "
                f"{migrating.newest(schema)}: restore it with Turnout {contents.turnout}, which wrote it"
            )


def _require_room(places: Places, contents: Contents) -> None:
    if len(contents.stores) > len({copy.file for copy in contents.stores.values()}) and not places.together:
        raise BackupFailed(
            "the back-up has both stores in one dump: let store.control_url and store.requests_url name one "
            "database"
        )
    for schema in _SCHEMAS:
        copy = contents.stores.get(schema)
        if copy is None:
            continue
        url = places.urls[schema]
        if databases.kind_of(url) != copy.kind:
            raise BackupFailed(
                f"the back-up's {schema} store is {copy.kind}, and store.{schema}_url names another kind"
            )
        database = databases.open_database(url, schema)
        try:
            _refuse_filled(database)
        finally:
            database.close()


def _refuse_filled(database: Database) -> None:
    if databases.is_empty(database):
        return
    found = databases.schema_in(database)
    migrating.require_known(database.schema, found)
    raise BackupFailed(
        f"there is a {database.schema} store already (schema {found}), and nothing is overwritten: move the "
        "files away, or give it an empty database"
    )


def _put_back(file: Path, copy: StoreCopy, url: str) -> None:
    if copy.kind == "sqlite":
        databases.put_back_sqlite(file, url)
    else:
        databases.load_postgresql(file, url)


def _begin_anew(places: Places, contents: Contents) -> None:
    """Bring the tables up to date, and forget who was at work when the copy was made."""
    reached, labels = contents.generation, set[str]()
    if "requests" in contents.stores:
        requests = databases.open_database(places.urls["requests"], "requests")
        try:
            requests.migrate()
            said = select(request_rows.c.generation, request_rows.c.adapter)
            with requests.read() as connection:
                newest = connection.execute(said.order_by(request_rows.c.id.desc()).limit(_NEWEST_ROWS)).all()
            reached = max([reached, *(row.generation or 0 for row in newest)])
            labels = {row.adapter for row in newest if row.adapter}
        finally:
            requests.close()
    control = databases.open_database(places.urls["control"], "control")
    try:
        control.migrate()
        with control.write() as connection:
            for table in (workers, worker_usage, cold_requests):
                connection.execute(delete(table))
            connection.execute(update(leases).values(expires_at=0.0))
            connection.execute(update(generations).values(value=reached + JUMP))
            _number_anew(connection, labels)
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(contents.at))
            events.record(
                connection,
                actor="turnout restore",
                action="store.restored",
                subject="control",
                why=f"from a back-up of {when}",
                generation_before=contents.generation,
            )
    finally:
        control.close()


def _number_anew(connection: Connection, labels: set[str]) -> None:
    """Let no version get a number that one may have had which `labels` name, or which nobody here knows."""
    last = {row.name: int(row.last_version) for row in connection.execute(select(names))}
    for ref in filter(None, map(VersionRef.parse, labels)):
        if ref.name not in last:
            connection.execute(insert(names).values(name=ref.name, last_version=0))
        last[ref.name] = max(last.get(ref.name, 0), ref.version)
    for name, number in last.items():
        connection.execute(
            update(names).where(names.c.name == name).values(last_version=number + NUMBERS_JUMP)
        )


def _sync(folder: Path) -> None:
    """Have the disk keep what was written, before the folder gets its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
