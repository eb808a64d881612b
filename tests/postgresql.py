"""A PostgreSQL server for tests: on loopback, under a temporary folder, where one is installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from gateway.store.database import Database, Schema

_PATIENCE_S = 30.0
_TEMPLATE = "turnout_template"
_SCHEMAS: tuple[Schema, ...] = ("control", "requests")


class NotInstalled(Exception):
    """There is no server to start here; the message says what is missing."""


@dataclass
class Server:
    """A server that runs. Databases are copies of one that was migrated once, with both schemas."""

    port: int
    numbers: Iterator[int] = field(default_factory=count)

    def url(self, name: str) -> str:
        """Return a database's URL."""
        return f"postgresql+psycopg://turnout@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database for one test, and yield its URL."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        import psycopg

        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=turnout dbname=postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, and end it with the block.

    Raises:
        NotInstalled: it can't be started here.
    """
    programs, identity = _programs(), _identity()
    with tempfile.TemporaryDirectory(prefix="turnout-pg-") as folder:
        if identity:
            shutil.chown(folder, identity["user"], identity["group"])
        data, port = Path(folder) / "data", _free_port()
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", "turnout", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            **identity,
        )
        if made.returncode != 0:
            raise NotInstalled(f"initdb failed: {made.stderr.strip()}")
        command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "-c", "fsync=off", "-c", "max_connections=60"],
                stdout=log,
                stderr=log,
                cwd=folder,
                **identity,
            )
            try:
                yield _ready(Server(port), process)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE_S)
                if process.poll() is None:
                    process.kill()
                    process.wait()


def _ready(server: Server, process: subprocess.Popen[Any]) -> Server:
    import psycopg

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            server.execute(f"CREATE DATABASE {_TEMPLATE}")
            break
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for schema in _SCHEMAS:
        database = Database(server.url(_TEMPLATE), schema)
        database.migrate()
        database.close()
    return server


def _programs() -> Path:
    """Return the folder of the newest server's programs; Debian keeps them off the path."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise NotInstalled(f"psycopg is not installed: {error}") from error
    here = [Path(found).parent for name in ("postgres",) if (found := shutil.which(name))]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    for folder in (*here, *reversed(debian)):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NotInstalled("no PostgreSQL server is installed (Debian: apt-get install postgresql)")


def _identity() -> dict[str, Any]:
    """Return as whom the server runs: it refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise NotInstalled("root can't run PostgreSQL, and there is no user 'postgres'") from None
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
