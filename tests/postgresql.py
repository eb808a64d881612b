"""PostgreSQL servers for tests: on loopback, under a temporary folder, where the programs are installed."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from gateway.store.database import Database, Schema
from gateway.supervise.engine import free_port  # one that nobody who reconnects can be given meanwhile

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE_S = 30.0
_TEMPLATE = "turnout_template"
_SCHEMAS: tuple[Schema, ...] = ("control", "requests")
_SETTINGS = ("max_connections=60", "wal_level=replica", "max_wal_senders=4")


class NotInstalled(Exception):
    """There is no server to start here; the message says what is missing."""


@dataclass
class Server:
    """One server. Databases are copies of one that was migrated once, with both schemas."""

    folder: Path
    port: int
    numbers: Iterator[int] = field(default_factory=count)
    process: "subprocess.Popen[bytes] | None" = None
    settings: tuple[str, ...] = ("fsync=off",)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, name: str) -> str:
        """Return a database's URL."""
        return f"postgresql+psycopg://turnout@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """Make a database for one test, and yield its URL."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else _TEMPLATE}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run a statement outside of any transaction."""
        import psycopg

        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=turnout dbname={database}", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def lose_notifications(self, url: str) -> None:
        """Let what is announced in a database reach nobody, as behind a pooler, from the next connection on.

        A function of that name stands in front of the server's own.
        """
        name = url.rpartition("/")[2]
        nothing = "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'"
        self.execute(nothing, database=name)
        self.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")

    def freeze(self) -> None:
        """Stop every process of it in its tracks: it takes connections, and answers nothing."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        """Let a frozen one go on."""
        for process in self._family():
            process.resume()

    def _family(self) -> "list[psutil.Process]":
        if self.process is None:
            return []
        mother = psutil.Process(self.process.pid)
        return [mother, *mother.children(recursive=True)]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += ["-k", str(self.folder)]
        command += ["-h", "127.0.0.1"]
        for setting in (*_SETTINGS, *self.settings):
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **_identity())
        self._await_answer()

    def stop(self) -> None:
        """End it in good order, or at once when it is slow; whoever is connected is thrown out."""
        if self.process is None:
            return
        self.process.send_signal(2)  # "fast": SIGTERM would wait for connections
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE_S)
        self.kill()

    def crash(self) -> None:
        """End it at once, without telling anybody or writing anything; the next start has to recover."""
        if self.process is not None:
            self.process.send_signal(3)
            self.process.wait(_PATIENCE_S)
            self.process = None

    def kill(self) -> None:
        """End what is left of it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def standby(self) -> Iterator["Server"]:
        """Start a standby that follows this server."""
        with tempfile.TemporaryDirectory(prefix="turnout-pg-") as name:
            folder = _owned(Path(name))
            made = Server(folder, free_port())
            place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "turnout", "-D", made.data]
            _run([programs() / "pg_basebackup", *place, "-R", "-X", "stream", "-c", "fast"], folder)
            made.start()
            try:
                yield made
            finally:
                made.stop()

    def promote(self) -> None:
        """Make a standby the primary."""
        self.execute("SELECT pg_promote()")

    def _await_answer(self) -> None:
        import psycopg

        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


@contextmanager
def running(*settings: str) -> Iterator[Server]:
    """Start a server, and end it with the block. Without `settings` it leaves syncing to the system.

    Raises:
        NotInstalled: it can't be started here.
    """
    _identity()
    with tempfile.TemporaryDirectory(prefix="turnout-pg-") as name:
        folder = _owned(Path(name))
        server = Server(folder, free_port(), settings=settings or ("fsync=off",))
        options = ["-U", "turnout", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _run([programs() / "initdb", "-D", server.data, *options], folder)
        try:
            server.start()
            server.execute(f"CREATE DATABASE {_TEMPLATE}")
            for schema in _SCHEMAS:
                database = Database(server.url(_TEMPLATE), schema)
                database.migrate()
                database.close()
            yield server
        finally:
            server.stop()


def programs() -> Path:
    """Return the folder of the newest server's programs: on the path, of Debian, or unpacked by the set-up.

    Raises:
        NotInstalled: there is none.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise NotInstalled(f"psycopg is not installed: {error}") from error
    here = [Path(found).resolve().parent for name in ("postgres",) if (found := shutil.which(name))]
    roots = (Path("/"), ROOT / ".venv" / "postgresql")
    debian = [path for root in roots for path in sorted(root.glob("usr/lib/postgresql/*/bin"), reverse=True)]
    for folder in (*here, *debian):
        if (folder / "initdb").exists() and _runs(folder / "postgres"):
            return folder
    raise NotInstalled("no PostgreSQL server is installed (Debian: apt-get install postgresql)")


def _runs(program: Path) -> bool:
    """Whether a program is there, with every library that it needs."""
    if not program.exists():
        return False
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def _run(command: list[Any], folder: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **_identity())
    except OSError as error:  # such as a folder that the user whom it runs as may not enter
        raise NotInstalled(f"{command[0]} can't be run: {error.strerror}") from error
    if done.returncode != 0:
        raise NotInstalled(f"{command[0].name} failed: {done.stderr.strip()}")


def _owned(folder: Path) -> Path:
    if identity := _identity():
        shutil.chown(folder, identity["user"], identity["group"])
    return folder


def _identity() -> dict[str, Any]:
    """Return as whom the server runs: it refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    for user in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    raise NotInstalled("root can't run PostgreSQL, and there is neither a user 'postgres' nor 'nobody'")
