"""The table's keeper: a worker that stood still, a slow read, a store that is lost while routes change."""

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.requests import Principal
from gateway.core.routes import Arm, Capture, RouteSpec, RouteStatus
from gateway.errors import Unavailable
from gateway.routing import watcher
from gateway.routing.resolve import resolve
from gateway.routing.watcher import OVERDUE_S, STALE_S, TableWatcher
from gateway.store.control import ControlStore, Snapshot
from gateway.telemetry import Telemetry
from tests.gateway.controller_house import Switchable

BASE = "SmolLM2-135M-Instruct"
WHO = Principal("key", "tenant", frozenset())


class Turned:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Turned:
    """The watcher's clock, which stands still until a test moves it."""
    made = Turned()
    monkeypatch.setattr(watcher, "time", made)
    return made


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Switchable]:
    """A control database that can be switched off."""
    database = Switchable(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def store(database: Switchable) -> ControlStore:
    """A store with a settled route `old` on old@1, and `new` moving from new@1 to new@2."""
    store = ControlStore(database)
    for name in ("old", "new"):
        for number in (1, 2):
            store.versions.add(name, f"sha256:{name}{number}", {}, actor="test")
        route = store.routes.get(name)
        assert route is not None
        arms = (Arm(adapter=f"{name}@1", share=1),)
        status = RouteStatus(state="active", active_generation=route.generation, effective_arms=arms)
        store.routes.set_status(name, status, generation=route.generation, actor="test")
    store.routes.put("new", RouteSpec(arms=(Arm(adapter="new@2", share=1),)), actor="test")
    return store


def watching(store: ControlStore, *, keys_last_s: float = math.inf) -> TableWatcher:
    """A watcher of the store."""
    return TableWatcher(
        store,
        base_model=BASE,
        default_capture=Capture(),
        poll_s=0.01,
        telemetry=Telemetry(),
        on_swap=lambda _: None,
        keys_last_s=keys_last_s,
    )


def answers(watched: TableWatcher, model: str) -> str:
    """The version that a request for `model` gets, or the code of the error."""
    try:
        target = resolve(watched.table, model, principal=WHO, request_id="r", subject=None)
    except Unavailable as error:
        return str(error.code)
    return target.engine_model


def test_a_worker_that_stood_still_reads_first(store: ControlStore, clock: Turned) -> None:
    """While the table is fresh nothing is waited for; after a standstill requests wait for the new one."""

    async def work() -> None:
        watched = watching(store)
        await watched.refresh()
        assert watched.overdue() is None
        store.routes.remove("old", actor="test")
        clock.now += OVERDUE_S
        waits = [watched.overdue() for _ in range(3)]
        await asyncio.gather(*(wait for wait in waits if wait is not None))
        assert None not in waits
        assert "old" not in watched.table.routes
        assert watched.overdue() is None

    asyncio.run(work())


def test_a_lost_store_holds_up_nobody_twice(store: ControlStore, database: Switchable, clock: Turned) -> None:
    """The first who wait hear that the store is away; from then on nobody waits."""

    async def work() -> None:
        watched = watching(store)
        await watched.refresh()
        database.down = True
        clock.now += OVERDUE_S
        wait = watched.overdue()
        assert wait is not None
        await wait
        assert watched.overdue() is None
        assert answers(watched, "old") == "old@1"

    asyncio.run(work())


def test_what_was_changing_is_refused_when_the_table_is_old(
    store: ControlStore, database: Switchable, clock: Turned
) -> None:
    """Settled routes go on without the store; a route that was moving does until the limit, and after it."""

    async def work() -> None:
        watched = watching(store)
        await watched.refresh()
        database.down = True
        await watched._look()
        assert answers(watched, "new") == "new@1"
        clock.now += STALE_S + 1
        await watched._look()
        for model, expected in [
            ("old", "old@1"),
            ("old@2", "old@2"),
            ("new", "table_stale"),
            ("new@1", "table_stale"),
            ("new@2", "table_stale"),
            (BASE, BASE),
        ]:
            assert answers(watched, model) == expected, model
        database.down = False
        await watched._look()
        assert answers(watched, "new") == "new@1"

    asyncio.run(work())


def test_a_slow_read_does_not_bring_back_an_old_table(
    store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two reads at once the newer table stays, whichever comes last."""
    early, snapshot = store.snapshot(), store.snapshot
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Snapshot:
        begun.set()
        assert go_on.wait(10)
        return early

    async def work() -> None:
        watched = watching(store)
        monkeypatch.setattr(store, "snapshot", slow)
        late = asyncio.create_task(watched.refresh())
        assert await asyncio.to_thread(begun.wait, 10)
        monkeypatch.setattr(store, "snapshot", snapshot)
        store.routes.remove("old", actor="test")
        await watched.refresh()
        newest = watched.generation
        go_on.set()
        assert not await late
        assert watched.generation == newest
        assert "old" not in watched.table.routes

    asyncio.run(work())


def test_a_read_that_hangs_counts_as_no_answer(store: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that gets no answer in time says so, and takes the answer when it comes."""
    monkeypatch.setattr(watcher, "PATIENCE_S", 0.01)

    async def work() -> None:
        watched = watching(store)
        await watched.refresh()
        answer = asyncio.Event()
        refresh = watched.refresh

        async def hangs() -> bool:
            await answer.wait()
            return await refresh()

        monkeypatch.setattr(watched, "refresh", hangs)
        polling: asyncio.Task[Any] = asyncio.create_task(watched.run())
        async with asyncio.timeout(10):
            while watched.store_ok:  # noqa: ASYNC110 - the watcher signals nothing
                await asyncio.sleep(0.005)
            answer.set()
            while not watched.store_ok:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.005)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    asyncio.run(work())


def test_keys_lapse_and_come_back(store: ControlStore, database: Switchable, clock: Turned) -> None:
    """Keys count for as long as was said after the store's last answer, whatever the wall clock does."""

    async def work() -> None:
        watched = watching(store, keys_last_s=900.0)
        await watched.refresh()
        database.down = True
        for passed, lapsed in [(0.0, False), (899.0, False), (2.0, True), (5000.0, True)]:
            clock.now += passed
            await watched._look()
            assert watched.table.keys_lapsed is lapsed
        assert watched.table.stale
        database.down = False
        await watched._look()
        assert (watched.table.keys_lapsed, watched.table.stale) == (False, False)

    asyncio.run(work())


def test_a_store_that_went_back(
    store: ControlStore, database: Switchable, clock: Turned, caplog: pytest.LogCaptureFixture
) -> None:
    """A read that began after the present table's and finds an older generation is of a restored store."""

    async def run() -> None:
        watching_it = watching(store)
        await watching_it.refresh()
        before = watching_it.generation
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE generations SET value = 1")
        assert not await watching_it.refresh()  # as far as the clock goes, that read may have been slower
        assert watching_it.generation == before
        clock.now += 1
        assert await watching_it.refresh()
        assert watching_it.generation == 1

    asyncio.run(run())
    assert "the store went back" in caplog.text


def test_an_announced_change_ends_the_wait(store: ControlStore) -> None:
    """Whoever is woken looks at once, however rarely it polls."""

    async def run() -> None:
        slow = TableWatcher(
            store,
            base_model=BASE,
            default_capture=Capture(),
            poll_s=3600.0,
            telemetry=Telemetry(),
            on_swap=lambda _: swapped.set(),
        )
        swapped = asyncio.Event()
        await slow.refresh()
        swapped.clear()
        task = asyncio.create_task(slow.run())
        store.versions.add("another", "sha256:another", {}, actor="test")
        slow.wake()
        await asyncio.wait_for(swapped.wait(), 10)
        assert "another" in slow.table.routes
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_another_capture_policy(store: ControlStore) -> None:
    """A new default is in the next table, although the store has not changed."""

    async def run() -> list[str]:
        watching_it = watching(store)
        found = []
        for mode in ("off", "full"):
            watching_it.capture_by(Capture.model_validate({"mode": mode}))
            await watching_it.refresh()
            capture = watching_it.table.routes["old"].capture
            found.append(capture.mode)
        assert not await watching_it.refresh()
        return found

    assert asyncio.run(run()) == ["off", "full"]
