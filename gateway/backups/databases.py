"""One database into a file and back: SQLite by its own online copy, PostgreSQL by pg_dump and pg_restore."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

from sqlalchemy import inspect
from sqlalchemy.engine import URL, make_url

from gateway.store import migrating
from gateway.store.database import Database, Schema

Kind = Literal["sqlite", "postgresql"]
_LAST_LINES = 5


class BackupFailed(Exception):
    """A back-up can't be made or put back; the message says why and what to do."""


def kind_of(url: str) -> Kind:
    """Return what kind of database a URL leads to."""
    return "sqlite" if make_url(url).get_backend_name() == "sqlite" else "postgresql"


def schema_in(database: Database) -> str | None:
    """Return the revision of a database's tables; None while it has none.

    Raises:
        StoreUnavailable: it can't be asked.
    """
    with database.read() as connection:
        return migrating.revision_of(connection, database.schema)


def copy_sqlite(url: str, target: Path) -> None:
    """Copy a database file as it is at one moment. Who writes meanwhile does not wait.

    Raises:
        BackupFailed: it can't be read, or the copy not written.
    """
    source = Path(make_url(url).database or "")
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise BackupFailed(f"{source} can't be copied to {target}: {error}") from error


def put_back_sqlite(source: Path, url: str) -> None:
    """Put a copy where the database was. Nothing may be there.

    Raises:
        BackupFailed: it can't be read or written.
    """
    target = Path(make_url(url).database or "")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = target.with_name(f".{target.name}.restored")
    scratch.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(scratch)) as new:
            old.backup(new)
        scratch.chmod(0o600)
        scratch.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise BackupFailed(f"{source} can't be put at {target}: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def dump_postgresql(url: str, target: Path) -> None:
    """Dump a whole database, as it is at one moment.

    Raises:
        BackupFailed: pg_dump is not here, or fails.
    """
    _run("pg_dump", make_url(url), ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])


def load_postgresql(source: Path, url: str) -> None:
    """Load a dump into an empty database, all of it or nothing.

    Raises:
        BackupFailed: pg_restore is not here, or fails.
    """
    options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    place = make_url(url)
    _run("pg_restore", place, [*options, f"--dbname={place.database}", str(source)])


def is_empty(database: Database) -> bool:
    """Whether a database has no tables at all, or is a file that is not there.

    Raises:
        StoreUnavailable: it can't be asked.
    """
    place = make_url(database.url)
    if kind_of(database.url) == "sqlite":
        return not Path(place.database or "").exists()
    with database.read() as connection:
        return not inspect(connection).get_table_names()


def open_database(url: str, schema: Schema) -> Database:
    """Return a database of which a back-up is made or put back."""
    return Database(url, schema)


def _run(program: str, place: URL, arguments: list[str]) -> None:
    found = shutil.which(program) or _debian(program)
    if found is None:
        raise BackupFailed(
            f"{program} is not on this machine; install PostgreSQL's client programs in the server's version "
            "or a newer one (Debian: apt-get install postgresql-client), or use your provider's back-ups"
        )
    done = subprocess.run(
        [found, *arguments],
        env={**os.environ, **_environment(place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "; ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise BackupFailed(f"{program} ended with code {done.returncode}: {said}")


def _debian(program: str) -> str | None:
    """Return where Debian keeps the newest version's programs, off the path."""
    found = Path("/usr/lib/postgresql").glob(f"*/bin/{program}")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return None if newest is None else str(newest)


def _environment(place: URL) -> Mapping[str, str]:
    """Return where the server is, as libpq's programs take it; a password is on no command line."""
    hosts = place.query.get("host", ())
    given: dict[str, str | None] = {
        "PGHOST": place.host or (hosts if isinstance(hosts, str) else ",".join(hosts)) or None,
        "PGPORT": None if place.port is None else str(place.port),
        "PGUSER": place.username,
        "PGPASSWORD": None if place.password is None else str(place.password),
        "PGDATABASE": place.database,
    }
    for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs"):
        value = place.query.get(name)
        given["PG" + name.upper().replace("_", "")] = value if isinstance(value, str) else None
    return {name: value for name, value in given.items() if value}
