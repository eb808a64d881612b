"""Fresh stores, and a clock that tests turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import clock as store_clock
from gateway.store import epochs, events, feedback, findings, keys, routes, schema, versions
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.requests import Requests


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A control database with its tables."""
    made = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    with made.write() as connection:
        schema.control.create_all(connection)
    yield made
    made.close()


@pytest.fixture
def control(database: Database) -> ControlStore:
    """An empty control store."""
    return ControlStore(database)


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[Requests]:
    """An empty requests store."""
    made = Database(f"sqlite:///{tmp_path}/requests.db", "requests", durable=False)
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
    return made
