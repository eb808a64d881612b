"""Changes are announced where the server can do that, and nothing depends on it."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from gateway.store import wakes
from gateway.store.connecting import patience_of
from gateway.store.control import ControlStore
from gateway.store.database import Database, Schema, StoreUnavailable
from gateway.store.wakes import Wakes
from tests.postgresql import Server


def test_where_nothing_is_announced() -> None:
    """On SQLite listening ends at once."""
    asyncio.run(asyncio.wait_for(Wakes("sqlite:///none.db").listen(lambda: None), 5))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://u@h/d", ("turnout", 5, "-c idle_in_transaction_session_timeout=10000")),
        (
            "postgresql+psycopg://u@h/d?connect_timeout=9&options=-c%20work_mem%3D64MB",
            ("turnout", None, "-c idle_in_transaction_session_timeout=10000 -c work_mem=64MB"),
        ),
    ],
)
def test_the_url_goes_before_our_patience(url: str, expected: tuple[str, int | None, str]) -> None:
    """What the URL says of timeouts stays, and its options are added to ours."""
    found = patience_of(make_url(url))
    assert (found["application_name"], found.get("connect_timeout"), found["options"]) == expected


def change(database: Database) -> None:
    """Make a new generation."""
    ControlStore(database).events.add(actor="test", action="test", subject="x")


def undone(database: Database) -> None:
    """Announce something in a transaction that fails."""
    with database.write() as connection:
        wakes.announce(connection, 7)
        connection.execute(text("SELECT nonsense"))


async def woken(heard: asyncio.Event, timeout_s: float = 20.0) -> None:
    """Wait until something was announced, and forget it."""
    await asyncio.wait_for(heard.wait(), timeout_s)
    heard.clear()


def test_a_server_that_can_not_be_listened_to(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and tried again, while whoever listens goes on polling."""

    async def run() -> None:
        listening = asyncio.create_task(
            Wakes("postgresql+psycopg://u@127.0.0.1:1/d?connect_timeout=1").listen(
                lambda: pytest.fail("nothing was announced")
            )
        )
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        assert not listening.done()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(run())
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "changes are not announced now, polling goes on"
    ]


@pytest.mark.slow
def test_a_commit_is_announced(postgresql: Server) -> None:
    """Each commit that changes the generation wakes whoever listens, and what is rolled back nobody."""

    async def run(url: str, database: Database) -> None:
        heard = asyncio.Event()
        listening = asyncio.create_task(Wakes(url).listen(heard.set))
        await woken(heard)  # it begins with a look
        await asyncio.to_thread(change, database)
        await woken(heard)
        with pytest.raises(StoreUnavailable):
            undone(database)
        with pytest.raises(TimeoutError):
            await woken(heard, 0.2)
        await asyncio.to_thread(change, database)
        await woken(heard)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    with postgresql.database() as url:
        database = Database(url, "control")
        asyncio.run(run(url, database))
        database.close()


@pytest.mark.slow
def test_a_connection_that_is_lost_is_made_again(postgresql: Server) -> None:
    """Whoever listens is woken after a break, for what may have been missed, and hears again."""

    async def run(url: str, database: Database) -> None:
        heard, listener = asyncio.Event(), Wakes(url)
        listening = asyncio.create_task(listener.listen(heard.set))
        await woken(heard)
        with database.write() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            assert connection.execute(text(cut)).scalar() is True
        change(database)  # nobody hears this one
        await woken(heard)
        assert listener.listening
        change(database)
        await woken(heard)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert not listener.listening

    with postgresql.database() as url:
        database = Database(url, "control")
        asyncio.run(run(url, database))
        database.close()


@pytest.mark.slow
def test_a_quiet_connection_is_probed(postgresql: Server) -> None:
    """Where nothing came for a while the server is asked for a sign of life, and the store is looked at."""

    async def run(url: str) -> None:
        heard = asyncio.Event()
        listening = asyncio.create_task(Wakes(url, probe_s=0.05).listen(heard.set))
        for _ in range(3):
            await woken(heard)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    with postgresql.database() as url:
        asyncio.run(run(url))


def test_both_stores_take_changes(store_url: Callable[[Schema], str]) -> None:
    """A change is stored alike where it is announced and where it is not."""
    database = Database(store_url("control"), "control")
    database.migrate()
    before = ControlStore(database).generation()
    change(database)
    assert ControlStore(database).generation() == before + 1
    database.close()
