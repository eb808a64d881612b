"""Replicas behind DNS names: found, kept while the resolver blinks, and let go in two steps."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.controller.discovery import LEAVE_S, LOOK_EVERY_S, Discovery, Engines, resolve
from gateway.settings import EngineSettings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, LeaseLost

NAME = "dns+http://engines.internal:8000"


class World:
    """A store, a resolver that says what it is told, and a clock."""

    def __init__(self, store: ControlStore, *urls: str) -> None:
        self.store = store
        self.now = 0.0
        self.addresses: Sequence[str] | OSError = []
        self.asked: list[tuple[str, int]] = []
        self.epoch = store.fleet.acquire(CONTROLLER, "test", ttl_s=600) or 0
        roots = {NAME: "/data"}
        self.discovery = Discovery(
            store.fleet, Engines(urls, "/mnt", roots), resolve=self._resolve, clock=lambda: self.now
        )

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return self.addresses

    def look(self, *addresses: str, after_s: float = LOOK_EVERY_S) -> dict[str, str]:
        """Let time pass and look; the replicas by id."""
        self.now += after_s
        self.addresses = addresses
        return self.update()

    def update(self) -> dict[str, str]:
        """Look with what the resolver says."""
        asyncio.run(self.discovery.update(epoch=self.epoch))
        return {row.id: row.url for row in self.store.fleet.replicas()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    """A control store."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    yield ControlStore(database)
    database.close()


def test_every_address_is_a_replica(store: ControlStore) -> None:
    """Static engines and addresses stand side by side, with stable ids and each its adapter root."""
    world = World(store, "http://one:8000", NAME)
    found = world.look("10.0.0.2", "fd00::1")
    assert found == {
        "replica-0": "http://one:8000",
        "replica-1-10.0.0.2": "http://10.0.0.2:8000",
        "replica-1-fd00::1": "http://[fd00::1]:8000",
    }
    assert {row.id: row.adapter_root for row in store.fleet.replicas()} == {
        "replica-0": "/mnt",
        "replica-1-10.0.0.2": "/data",
        "replica-1-fd00::1": "/data",
    }
    assert world.asked == [("engines.internal", 8000)]
    before = store.generation()
    assert world.look("fd00::1", "10.0.0.2") == found
    assert store.generation() == before


def test_a_name_is_not_looked_up_at_every_turn(store: ControlStore) -> None:
    """Between two lookups some seconds pass."""
    world = World(store, NAME)
    world.look("10.0.0.2")
    world.look("10.0.0.2", after_s=LOOK_EVERY_S / 2)
    assert len(world.asked) == 1


def test_an_address_that_is_gone_leaves_in_two_steps(store: ControlStore) -> None:
    """First it is leaving and still there, then it is out; one that comes back in between stays."""
    world = World(store, NAME)
    world.look("10.0.0.2", "10.0.0.3")
    gone = "replica-0-10.0.0.3"
    assert gone in world.look("10.0.0.2")
    assert world.discovery.leaving == {gone}
    assert gone in world.look("10.0.0.2", "10.0.0.3")
    assert world.discovery.leaving == frozenset()
    world.look("10.0.0.2")
    assert world.look("10.0.0.2", after_s=LEAVE_S) == {"replica-0-10.0.0.2": "http://10.0.0.2:8000"}
    assert world.discovery.leaving == frozenset()


@pytest.mark.parametrize("answer", [OSError("no such name"), []], ids=["fails", "empty"])
def test_a_resolver_that_blinks_empties_nothing(store: ControlStore, answer: OSError | list[str]) -> None:
    """While a lookup fails or finds nothing, what is known stays, for as long as it takes."""
    world = World(store, NAME)
    known = world.look("10.0.0.2", "10.0.0.3")
    for _ in range(5):
        world.now += LEAVE_S
        world.addresses = answer
        assert world.update() == known
    assert world.discovery.leaving == frozenset()


def test_a_resolver_that_hangs_is_given_up(store: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that does not end counts as one that failed."""
    monkeypatch.setattr("gateway.controller.discovery.LOOKUP_TIMEOUT_S", 0.01)
    world = World(store, NAME)
    known = world.look("10.0.0.2")

    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [host, str(port)]

    world.discovery._resolve = hang
    world.now += LOOK_EVERY_S
    assert world.update() == known


def test_only_the_effective_controller_changes_the_fleet(store: ControlStore) -> None:
    """A controller whose epoch is over writes nothing."""
    world = World(store, NAME)
    store.fleet.release(CONTROLLER, "test")
    with pytest.raises(LeaseLost):
        world.look("10.0.0.2")
    assert store.fleet.replicas() == []


def test_without_names_nothing_is_looked_up(store: ControlStore) -> None:
    """Static engines are entered by whoever starts the service, and are left alone here."""
    world = World(store, "http://one:8000")
    store.fleet.set_replicas({"replica-0": ("http://one:8000", "/mnt")})
    before = store.generation()
    world.look("10.0.0.2")
    assert (world.asked, store.generation()) == ([], before)


def test_a_real_name_is_resolved() -> None:
    """The system's resolver gives each address once, of one family."""
    assert list(asyncio.run(resolve("localhost", 80))) in (["127.0.0.1"], ["::1"])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"urls": ["dns+https://x"]}, "is not an http"),
        ({"urls": ["http://x"], "adapter_roots": {"http://y": "/mnt"}}, "which is not among urls"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, object], fault: str) -> None:
    """What can't be meant is refused, with the offending value."""
    with pytest.raises(ValueError, match=fault):
        EngineSettings.model_validate(fields)
