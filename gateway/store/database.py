"""One database: its connections, its pragmas, its transactions and its migrations."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.store import revisions
from gateway.store.connecting import patience_of

Schema = Literal["control", "requests"]
Result = TypeVar("Result")

BUSY_TIMEOUT_S = 10.0
POOL_TIMEOUT_S = 10.0
ATTEMPTS = 3
MIGRATION_ATTEMPTS = 6
"""Of BUSY_TIMEOUT_S each: another process may be migrating on a slow disk."""


class StoreUnavailable(Exception):
    """The store did not answer or refused; the cause is chained."""


class SchemaTooNew(StoreUnavailable):
    """A newer Turnout has changed the tables; this one does not know what they mean."""


class WrittenMeanwhile(StoreUnavailable):
    """Another writer was first with a row of that key; the same transaction will find it there."""


def retried(work: Callable[[], Result]) -> Result:
    """Do work that is one transaction, again when another writer was first. SQLite's writers queue."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except WrittenMeanwhile:
            continue
    return work()


class Database:
    """A pool of connections to one database.

    On SQLite every transaction that writes begins with BEGIN IMMEDIATE, so that two writers queue
    instead of failing half-way, and `durable` decides between `synchronous=FULL` and `NORMAL`.
    """

    def __init__(self, url: str, schema: Schema, *, durable: bool = True) -> None:
        self.url = url
        self.schema = schema
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        if self._sqlite:
            self._make_folder(url)
        self._closed = False
        self._engine = _engine(url, sqlite=self._sqlite, durable=durable)
        event.listen(self._engine, "checkin", self._given_back)

    @staticmethod
    def _make_folder(url: str) -> None:
        name = make_url(url).database
        if name and name != ":memory:":
            Path(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection to read with.

        Raises:
            StoreUnavailable: the database can't be reached.
        """
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreUnavailable(_cause(error)) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction; it is committed at the end of the block and rolled back by any exception.

        Raises:
            WrittenMeanwhile: a row with one of the keys is there already.
            StoreUnavailable: the database can't be reached or stays locked.
        """
        try:
            with (
                self._engine.connect().execution_options(turnout_write=True) as connection,
                connection.begin(),
            ):
                yield connection
        except IntegrityError as error:
            raise WrittenMeanwhile(_cause(error)) from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(_cause(error)) from error

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            StoreUnavailable: it gives none.
        """
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Bring the tables to the newest revision. Safe to call from several processes at once.

        Raises:
            SchemaTooNew: they are newer than this Turnout.
            StoreUnavailable: the database can't be reached.
        """
        for attempt in range(1, MIGRATION_ATTEMPTS + 1):
            try:
                self._migrate()
            except StoreUnavailable as error:
                if attempt == MIGRATION_ATTEMPTS or not _locked(error):
                    raise
            else:
                return

    def _migrate(self) -> None:
        with self.read() as connection:
            if revisions.is_newest(connection, self.schema):
                return
        from gateway.store import migrating  # noqa: PLC0415 - Alembic, which workers seldom need

        with self.write() as connection:
            migrating.upgrade(connection, self.schema)

    def close(self) -> None:
        """Close every idle connection now, and the others when they are given back."""
        self._closed = True
        self._engine.dispose()

    def _given_back(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        if self._closed:  # by a thread whose answer nobody waited for: the pool forgot it
            record.invalidate()


def _locked(error: StoreUnavailable) -> bool:
    """Whether another writer to SQLite held its lock all the while."""
    original = getattr(error.__cause__, "orig", None)
    return isinstance(original, sqlite3.OperationalError) and original.sqlite_errorcode == sqlite3.SQLITE_BUSY


def _cause(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    return str(original or error).splitlines()[0]


def _engine(url: str, *, sqlite: bool, durable: bool) -> Engine:
    # What is bound may be somebody's prompt: no message of an error shows it.
    if not sqlite:
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=5,
            pool_timeout=POOL_TIMEOUT_S,
            hide_parameters=True,
            connect_args=patience_of(make_url(url)),
        )
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("turnout_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
