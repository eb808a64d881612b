"""PostgreSQL that goes away: crashes and comes back, throws everybody out, or is replaced by its standby."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from sqlalchemy import text

from gateway.core.requests import RequestRow
from gateway.core.routes import Capture
from gateway.recording import Recorder
from gateway.routing.watcher import TableWatcher
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.fleet import CONTROLLER
from gateway.store.requests import Requests
from gateway.store.wakes import Wakes
from gateway.telemetry import Telemetry
from tests.postgresql import NotInstalled, Server, running

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(running())
        except NotInstalled as missing:
            pytest.skip(str(missing))
        yield made


def add_version(control: ControlStore, name: str) -> None:
    """Make a change that every gateway has to see."""
    control.versions.add(name, f"sha256:{name}", {}, actor="test")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has come true that others bring about."""
    for _ in range(int(PATIENCE_S / 0.02)):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


class Worker:
    """The parts of a gateway that lean on the stores: its table, its listener and its recorder."""

    def __init__(self, control_url: str, requests_url: str) -> None:
        self.control = Database(control_url, "control")
        self.requests = Database(requests_url, "requests", durable=False)
        self.telemetry = Telemetry()
        self.watcher = TableWatcher(
            ControlStore(self.control),
            base_model="base-model",
            default_capture=Capture(),
            poll_s=0.1,
            telemetry=self.telemetry,
            on_swap=lambda _: None,
            keys_last_s=math.inf,
        )
        self.recorder = Recorder(
            Requests(self.requests),
            self.telemetry,
            queue_size=1000,
            batch_size=10,
            interval_s=0.02,
            max_text_chars=100,
        )
        self.wakes = Wakes(control_url)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.watcher.refresh()
        loops = (self.watcher.run(), self.recorder.run(), self.wakes.listen(self.watcher.wake))
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.control.close()
        self.requests.close()

    def record(self, number: int) -> None:
        """Record a request, as the hot path does."""
        self.recorder.put(RequestRow(f"req-{number:032x}", float(number), "completions", route="r"))

    async def sees(self, name: str) -> None:
        """Wait until the table has a version's route."""
        await until(lambda: name in self.watcher.table.routes)

    async def stored(self, *numbers: int) -> None:
        """Wait until rows are in the database."""
        requests = Requests(self.requests)

        def there() -> bool:
            try:
                return all(requests.find(f"req-{number:032x}") for number in numbers)
            except StoreUnavailable:
                return False

        await until(there)


def test_a_server_that_crashes_and_comes_back(server: Server) -> None:
    """The table stays in use, rows wait, and all goes on by itself; what was acknowledged is there."""

    async def run(url: str) -> None:
        async with Worker(url, url) as worker:
            control = ControlStore(worker.control)
            add_version(control, "before")
            await worker.sees("before")
            epoch = control.fleet.acquire(CONTROLLER, "me", ttl_s=60)
            server.crash()
            with pytest.raises(StoreUnavailable):
                control.generation()
            worker.record(1)
            await until(lambda: not worker.watcher.store_ok)
            assert "before" in worker.watcher.table.routes
            await asyncio.to_thread(server.start)
            await worker.stored(1)
            assert control.fleet.acquire(CONTROLLER, "me", ttl_s=60) == epoch
            add_version(control, "after")
            await worker.sees("after")
            assert worker.watcher.store_ok
            assert worker.telemetry.records_dropped._value.get() == 0

    with server.database() as url:
        asyncio.run(run(url))


def test_connections_that_are_cut(server: Server) -> None:
    """When the server throws everybody out, the next call makes a new connection, and nothing is lost."""

    async def run(url: str) -> None:
        async with Worker(url, url) as worker:
            control = ControlStore(worker.control)
            for number in range(5):
                server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'turnout'"
                )
                worker.record(number + 1)
                await asyncio.to_thread(_sooner_or_later, control, f"v{number}")
                await worker.sees(f"v{number}")
            await worker.stored(1, 2, 3, 4, 5)

    with server.database() as url:
        asyncio.run(run(url))


def test_a_server_that_hangs(server: Server) -> None:
    """While it answers nothing, the table stays in use and rows wait; when it moves again, all goes on."""

    async def run(url: str) -> None:
        async with Worker(url, url) as worker:
            control = ControlStore(worker.control)
            add_version(control, "before")
            await worker.sees("before")
            server.freeze()
            try:
                worker.record(1)
                await until(lambda: not worker.watcher.store_ok)
                assert "before" in worker.watcher.table.routes
            finally:
                server.thaw()
            await worker.stored(1)
            add_version(control, "after")
            await worker.sees("after")
            assert worker.watcher.store_ok

    with server.database() as url:
        asyncio.run(run(url))


def test_notifications_that_are_lost(postgresql: Server) -> None:
    """What nobody was told of is found by the next poll, while whoever listens hears nothing."""

    async def run(url: str) -> None:
        async with Worker(url, url) as worker:
            await until(lambda: worker.wakes.listening)
            heard = asyncio.Event()
            other = Wakes(url)
            listening = asyncio.create_task(other.listen(heard.set))
            await until(lambda: other.listening)
            await heard.wait()  # it begins with a look
            heard.clear()
            for name in ("one", "two"):
                await asyncio.to_thread(add_version, ControlStore(worker.control), name)
                await worker.sees(name)
            assert not heard.is_set()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    with postgresql.database() as url:
        postgresql.lose_notifications(url)
        asyncio.run(run(url))


def _sooner_or_later(control: ControlStore, name: str) -> None:
    """Add a version; a transaction that was cut off before its commit is made again by its caller."""
    for _ in range(10):
        with contextlib.suppress(StoreUnavailable):
            add_version(control, name)
            return
    raise AssertionError("the store did not come back")


def test_a_standby_takes_over(server: Server) -> None:
    """With both hosts in the URL, everything goes on at the standby once it is promoted."""

    async def run(url: str, standby: Server) -> None:
        async with Worker(url, url) as worker:
            control = ControlStore(worker.control)
            add_version(control, "before")
            worker.record(1)
            await worker.stored(1)
            await worker.sees("before")
            _await_replay(server, standby)
            server.crash()
            worker.record(2)
            await asyncio.to_thread(standby.promote)
            await worker.stored(1, 2)
            await asyncio.to_thread(_sooner_or_later, control, "after")
            await worker.sees("after")
            assert "before" in worker.watcher.table.routes

    with contextlib.ExitStack() as stack:
        url = server.url("postgres")
        for schema in ("control", "requests"):
            database = Database(url, schema)  # type: ignore[arg-type]
            database.migrate()
            database.close()
        standby = stack.enter_context(server.standby())
        hosts = f"host=127.0.0.1:{server.port}&host=127.0.0.1:{standby.port}"
        both = f"postgresql+psycopg://turnout@/postgres?{hosts}&target_session_attrs=read-write"
        asyncio.run(run(both, standby))


def _await_replay(primary: Server, standby: Server) -> None:
    """Wait until the standby has everything that was committed."""
    main, other = (Database(each.url("postgres"), "control") for each in (primary, standby))
    with main.read() as connection:
        at = connection.execute(text("SELECT pg_current_wal_lsn()")).scalar()
    caught_up = text("SELECT pg_last_wal_replay_lsn() >= CAST(:at AS pg_lsn)")
    for _ in range(1000):
        with other.read() as connection:
            if connection.execute(caught_up, {"at": str(at)}).scalar():
                break
            connection.execute(text("SELECT pg_sleep(0.02)"))
    else:
        raise AssertionError("the standby does not follow")
    main.close()
    other.close()
