"""Fresh stores, on SQLite and on PostgreSQL where that is installed, and a clock that tests turn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.store import clock as store_clock
from gateway.store import epochs, events, feedback, findings, keys, routes, schema, versions
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema
from gateway.store.requests import Requests


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Schema], str]]:
    """Returns where a schema's database is; SQLite has a file for each, PostgreSQL one database for both."""
    if request.param == "sqlite":
        yield lambda name: f"sqlite:///{tmp_path}/{name}.db"
        return
    with request.getfixturevalue("postgresql").database() as url:
        yield lambda _: url


@pytest.fixture
def database(store_url: Callable[[Schema], str]) -> Iterator[Database]:
    """A control database with its tables."""
    made = Database(store_url("control"), "control", durable=False)
    with made.write() as connection:
        schema.control.create_all(connection)
    yield made
    made.close()


@pytest.fixture
def control(database: Database) -> ControlStore:
    """An empty control store."""
    return ControlStore(database)


@pytest.fixture
def requests(store_url: Callable[[Schema], str]) -> Iterator[Requests]:
    """An empty requests store."""
    made = Database(store_url("requests"), "requests", durable=False)
    with made.write() as connection:
        schema.requests.create_all(connection)
    yield Requests(made)
    made.close()


class Clock:
    """Stands in for the module `time` in the store."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        """Return the present time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The store's clock, which stands still until a test moves it."""
    made = Clock()
    for module in (epochs, events, feedback, findings, store_clock, keys, routes, versions):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(store_clock, "now", lambda _: made.now)  # PostgreSQL has one of its own
    return made
