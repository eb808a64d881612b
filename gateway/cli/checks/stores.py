"""What `turnout doctor` looks at in the databases: do they answer, with which tables, and do keys fit."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.checks.check import Check

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.database import Database

MOST_SKEW_S = 1.0
OLDEST_POSTGRESQL = 130000
CONNECTIONS_EACH = 21
"""Of a process at most: two pools of ten, and the one that listens."""
LATE_S = 86_400.0
_NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre")


def stores(settings: "Settings") -> Iterator[Check]:
    """Yield what is found of both databases."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - other commands need not pay for it
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415

    from gateway.store.database import Database, Schema  # noqa: PLC0415

    urls: dict[Schema, str] = {"control": settings.control_url, "requests": settings.requests_url}
    for schema, url in urls.items():
        name, field = f"{schema} store", f"store.{schema}_url"
        try:
            place = make_url(url)
            shown = place.render_as_string(hide_password=True)
            if place.get_backend_name() == "sqlite" and not Path(place.database or "").exists():
                yield Check(name, ok=True, found=f"{shown} (will be made)")
                continue
            database = Database(url, schema)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            reason = (
                "pip install 'turnout[postgresql]'" if isinstance(error, ImportError) else f"mend {field}"
            )
            yield Check(name, ok=False, found=str(error).splitlines()[0], todo=reason)
            continue
        try:
            yield from _store(database, settings, name=name, shown=shown, field=field)
        finally:
            database.close()


def _store(
    database: "Database", settings: "Settings", *, name: str, shown: str, field: str
) -> Iterator[Check]:
    from gateway.store.database import SchemaTooNew, StoreUnavailable  # noqa: PLC0415 - as above

    try:
        database.ping()
        yield Check(name, ok=True, found=f"{shown} answers")
        yield _schema(database, name)
        yield from (
            _sqlite(database, name)
            if database.url.startswith("sqlite")
            else _server(database, settings, name)
        )
        if database.schema == "control":
            yield from _keys(database, settings)
        else:
            yield from _pruned(database, settings)
    except SchemaTooNew as error:
        yield Check(f"{name}: schema", ok=False, found=str(error), todo="start a newer Turnout")
    except StoreUnavailable as error:
        yield Check(name, ok=False, found=f"{shown}: {error}", todo=f"start the database, or mend {field}")


def _schema(database: "Database", name: str) -> Check:
    """Return which tables there are.

    Raises:
        SchemaTooNew: newer ones.
    """
    from gateway.store import migrating  # noqa: PLC0415 - as above

    with database.read() as connection:
        found = migrating.revision_of(connection, database.schema)
    migrating.require_known(database.schema, found)
    newest = migrating.newest(database.schema)
    if found == newest:
        return Check(f"{name}: schema", ok=True, found=f"{found}, the newest")
    what = f"{found or 'none'}; the next start makes it {newest}, which takes no step back: back up first"
    return Check(f"{name}: schema", ok=True, found=what)


def _sqlite(database: "Database", name: str) -> Iterator[Check]:
    """Yield whether the file lies where SQLite's locks work."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - as above

    path = Path(make_url(database.url).database or "").absolute()
    kind = filesystem_of(path, Path("/proc/self/mounts"))
    if kind in _NETWORK_FILESYSTEMS:
        yield Check(
            f"{name}: place",
            ok=False,
            found=f"{path} is on {kind}, over which SQLite's write-ahead log does not work",
            todo="put state_dir on a local disk, or use PostgreSQL (docs/postgresql.md)",
        )


def filesystem_of(path: Path, mounts: Path) -> str | None:
    """Return the kind of file system that a path is on; None where that can't be found out."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    over = {line[1]: line[2] for line in lines if len(line) > 2 and path.is_relative_to(line[1])}
    return over[max(over, key=len)] if over else None


def _server(database: "Database", settings: "Settings", name: str) -> Iterator[Check]:
    """Yield what a PostgreSQL server says of itself."""
    from sqlalchemy import text  # noqa: PLC0415 - as above

    query = text(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby, "
        "current_setting('max_connections')::int AS connections, "
        "extract(epoch FROM clock_timestamp()) AS clock"
    )
    with database.read() as connection:
        connection.execute(text("SELECT 1"))  # what follows is about the clock, not about connecting
        began = time.time()
        row = connection.execute(query).one()
        off_s = float(row.clock) - (began + time.time()) / 2
    major = f"PostgreSQL {row.version // 10000}"
    yield Check(
        f"{name}: server",
        ok=row.version >= OLDEST_POSTGRESQL and not row.standby,
        found=f"{major}, a standby that takes no writes" if row.standby else major,
        todo="name the primary, or all hosts with target_session_attrs=read-write (docs/postgresql.md)"
        if row.standby
        else f"use PostgreSQL {OLDEST_POSTGRESQL // 10000} or newer",
    )
    yield Check(
        f"{name}: clock",
        ok=abs(off_s) <= MOST_SKEW_S,
        found=f"{off_s:+.2f} s from this machine's",
        todo="let both follow a time server (chrony, systemd-timesyncd)",
        grave=False,
    )
    need = CONNECTIONS_EACH * (settings.server.workers + 1)
    yield Check(
        f"{name}: connections",
        ok=row.connections >= need,
        found=f"{row.connections} allowed, {need} may be needed by this machine",
        todo="raise max_connections: every machine needs as many (docs/postgresql.md)",
        grave=False,
    )


def _keys(database: "Database", settings: "Settings") -> Iterator[Check]:
    """Yield whether the store's keys were made with this machine's pepper."""
    from gateway.store.keys import Keys  # noqa: PLC0415 - as above
    from gateway.supervise.serve import CannotServe, refuse_strange_pepper  # noqa: PLC0415

    if settings.auth.pepper_file is None and not (settings.state_dir / "pepper").exists():
        return
    try:
        refuse_strange_pepper(settings, Keys(database).rows())
    except (CannotServe, OSError) as error:
        yield Check("keys", ok=False, found=str(error), todo="set auth.pepper_file (docs/keys.md)")


def _pruned(database: "Database", settings: "Settings") -> Iterator[Check]:
    """Yield whether rows are removed when they are old."""
    from sqlalchemy import select  # noqa: PLC0415 - as above

    from gateway.store.schema import request_rows  # noqa: PLC0415

    kept_s = settings.retention.requests_h * 3600
    if not kept_s:
        return
    with database.read() as connection:
        oldest = connection.execute(select(request_rows.c.at).order_by(request_rows.c.id).limit(1)).scalar()
    if oldest is not None and time.time() - oldest > kept_s + LATE_S:
        yield Check(
            "retention",
            ok=False,
            found=f"the oldest recorded request is {(time.time() - oldest) / 3600:.0f} h old, and "
            f"retention.requests_h is {settings.retention.requests_h:.0f}",
            todo="see that a controller runs: it removes them (`turnout status`)",
            grave=False,
        )
