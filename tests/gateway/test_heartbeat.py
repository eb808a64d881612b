"""Heartbeats: how a worker learns how many there are, and what its share of the replicas is."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import create_app
from gateway.core.routes import Arm, RouteSpec
from gateway.replicas.heartbeat import ALIVE_WITHIN_S, Heartbeat
from gateway.replicas.in_flight import InFlight
from gateway.settings import Settings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import WorkerRow
from gateway.telemetry import Telemetry

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    """A control store."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control")
    database.migrate()
    yield ControlStore(database)
    database.close()


def beat(store: ControlStore, name: str) -> list[int]:
    """One heartbeat of a worker; how many it then believes to live."""
    heard: list[int] = []
    heartbeat = Heartbeat(
        store.fleet,
        name,
        applied_generation=lambda: 1,
        in_flight=InFlight(),
        telemetry=Telemetry(),
        on_alive=heard.append,
    )
    asyncio.run(heartbeat.beat())
    return heard


def test_workers_count_each_other(store: ControlStore) -> None:
    """A worker counts itself and whoever was heard of lately; one that signed off or is silent is none."""
    assert beat(store, "a") == [1]
    assert beat(store, "b") == [2]
    store.fleet.beat(WorkerRow("silent", 1, {}, time.time() - ALIVE_WITHIN_S - 1))
    assert beat(store, "a") == [2]
    store.fleet.forget_worker("b")
    assert beat(store, "a") == [1]


def test_a_store_that_is_down_says_nothing(tmp_path: Path) -> None:
    """Without the store a worker keeps the share that it has."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control")  # no tables in it
    assert beat(ControlStore(database), "a") == []
    database.close()


@pytest.mark.parametrize(
    ("workers", "alive", "share", "queue"),
    [(1, 1, 10, 8), (2, 1, 5, 4), (2, 2, 5, 4), (2, 3, 3, 2), (1, 40, 1, 0)],
)
def test_a_workers_share(tmp_path: Path, workers: int, alive: int, share: int, queue: int) -> None:
    """The limits are divided by the workers that live, those that this machine should have included."""
    settings = Settings(
        state_dir=tmp_path,
        server={"workers": workers},  # type: ignore[arg-type]
        limits={"max_in_flight_per_replica": 10, "max_queue": 8},  # type: ignore[arg-type]
    )
    gateway = create_app(settings).state.gateway
    gateway._share(alive)
    assert (gateway.pool._limit, gateway.pool._max_queue) == (share, queue)


def test_a_worker_reads_the_table_again_once_it_was_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed before its first beat, when nobody waited for it, is known before it serves."""
    gateway = create_app(Settings(state_dir=tmp_path)).state.gateway
    beat = Heartbeat.beat

    async def late(self: Heartbeat) -> None:
        spec = RouteSpec(arms=(Arm(adapter="base", share=1),))
        gateway.control.routes.put("late", spec, actor="test")
        await beat(self)

    monkeypatch.setattr(Heartbeat, "beat", late)

    async def work() -> None:
        async with gateway.lifespan(None):
            assert "late" in gateway.watcher.table.routes

    asyncio.run(work())
