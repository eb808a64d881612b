"""Migrations, transactions, and what happens when the database fails."""

import multiprocessing
import sqlite3
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text

from gateway.store import database as database_module
from gateway.store import schema
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema, StoreUnavailable

SCHEMAS: list[Schema] = ["control", "requests"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_migrations_make_the_schema(tmp_path: Path, name: Schema) -> None:
    """A fresh file gets exactly the tables, columns and indexes of the code; a second run changes nothing."""
    database = Database(f"sqlite:///{tmp_path}/deep/er/new.db", name)
    for _ in range(2):
        database.migrate()
        with database.read() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "version_table": f"alembic_{name}"}
            )
            assert compare_metadata(context, getattr(schema, name)) == []
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o077 == 0
    database.close()


def test_migrating_keeps_what_is_stored(tmp_path: Path) -> None:
    """A store with content is opened again as it was."""
    url = f"sqlite:///{tmp_path}/control.db"
    for number in (1, 2):
        database = Database(url, "control")
        database.migrate()
        control = ControlStore(database)
        control.versions.add("a", f"d{number}", {}, actor="me")
        assert len(control.versions.rows()) == number
        database.close()


def _migrate(
    url: str, barrier: "multiprocessing.synchronize.Barrier", queue: "multiprocessing.Queue[str]"
) -> None:
    database = Database(url, "control")
    barrier.wait()
    try:
        database.migrate()
        queue.put("done")
    except Exception as error:  # noqa: BLE001 - the parent shows it
        queue.put(repr(error))
    finally:
        database.close()


@pytest.mark.slow
def test_processes_that_migrate_at_once(tmp_path: Path) -> None:
    """Three processes that open a fresh store at the same moment all find its tables."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    url = f"sqlite:///{tmp_path}/control.db"
    processes = [context.Process(target=_migrate, args=(url, barrier, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == ["done"] * 3
    for process in processes:
        process.join(timeout=60)
    database = Database(url, "control")
    assert ControlStore(database).generation() == 0
    database.close()


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    """An exception inside a block of writing undoes all of it."""

    def halfway() -> None:
        with database.write() as connection:
            connection.execute(insert(schema.names).values(name="a", last_version=1))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        halfway()
    with database.read() as connection:
        assert connection.execute(select(schema.names)).all() == []


def test_writers_queue(database: Database) -> None:
    """A second writer to SQLite waits for the first instead of failing, and readers wait for neither."""
    if not database.url.startswith("sqlite"):
        pytest.skip("writers of different rows do not meet elsewhere")
    order = []
    inside, release = threading.Event(), threading.Event()

    def first() -> None:
        with database.write() as connection:
            connection.execute(insert(schema.names).values(name="a", last_version=1))
            inside.set()
            release.wait(10)
            order.append("first")

    def second() -> None:
        with database.write() as connection:
            connection.execute(insert(schema.names).values(name="b", last_version=1))
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    with database.read() as connection:
        assert connection.execute(select(schema.names)).all() == []
    release.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_what_sqlite_is_told(tmp_path: Path, durable: bool, level: int) -> None:
    """Databases are in WAL mode; durable ones wait for the disk at every commit (FULL is 2, NORMAL 1)."""
    database = Database(f"sqlite:///{tmp_path}/x.db", "control", durable=durable)
    with database.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == level
    database.ping()
    database.close()


def test_a_database_that_can_not_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, a missing table and a lock that stays are all StoreUnavailable."""
    (tmp_path / "damaged.db").write_bytes(b"no database at all" * 100)
    damaged = Database(f"sqlite:///{tmp_path}/damaged.db", "control")
    with pytest.raises(StoreUnavailable, match="not a database"):
        damaged.ping()
    damaged.close()

    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    empty = Database(f"sqlite:///{tmp_path}/empty.db", "control")
    with pytest.raises(StoreUnavailable, match="no such table"):
        ControlStore(empty).generation()
    holder = sqlite3.connect(tmp_path / "empty.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"), empty.write():
        pass
    holder.close()
    with empty.write():
        pass
    empty.close()


def test_a_connection_in_use_when_it_closes_is_closed_when_given_back(tmp_path: Path) -> None:
    """A thread may still be reading as its database closes: its connection does not stay open."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control")
    with database.read() as connection:
        used = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        database.close()
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used.execute("SELECT 1")


def test_migrating_waits_longer_than_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's migration may take longer than a request would wait; for ever is too long."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.02)
    database = Database(f"sqlite:///{tmp_path}/control.db", "control")
    holder = sqlite3.connect(tmp_path / "control.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        database.migrate()
    tries = iter(range(database_module.MIGRATION_ATTEMPTS))
    read = Database.read

    def freed(self: Database) -> AbstractContextManager[Connection]:
        if next(tries) == 2:
            holder.rollback()
        return read(self)

    monkeypatch.setattr(Database, "read", freed)
    database.migrate()
    assert next(tries) == 3
    assert ControlStore(database).generation() == 0
    holder.close()
    database.close()
