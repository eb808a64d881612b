"""Wakes who polls the store's generation as soon as a change is committed: LISTEN and NOTIFY on PostgreSQL.

A wake is a hint. Who is woken looks at the generation, as it does at every poll; a notification that is lost,
or a server that can't be listened to, costs the rest of one poll and nothing else. SQLite has no such thing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from gateway.store.connecting import patience_of

if TYPE_CHECKING:
    import psycopg

CHANNEL = "turnout_generation"
PROBE_S = 15.0
"""A connection over which nothing came for so long is asked for a sign of life."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
_log = logging.getLogger("turnout.store")


def announce(connection: Connection, generation: int) -> None:
    """Tell who listens of a new generation, when the open transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_notify(:channel, :generation)"),
            {"channel": CHANNEL, "generation": str(generation)},
        )


class Wakes:
    """One connection that listens."""

    def __init__(self, url: str, *, probe_s: float = PROBE_S) -> None:
        self.listening = False
        self._url = make_url(url)
        self._probe_s = probe_s

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every change, and whenever some may have been missed, until cancelled.

        It returns at once where there is nothing to listen to. A connection that fails is made again.
        """
        if self._url.get_backend_name() != "postgresql":
            return
        import psycopg  # noqa: PLC0415 - an extra

        pause_s, told = FIRST_PAUSE_S, False
        while True:
            try:
                await self._listen_once(wake)
            except (psycopg.Error, OSError) as error:
                if self.listening or not told:
                    pause_s, told = FIRST_PAUSE_S, True
                    first = str(error).partition("\n")[0]
                    _log.warning("changes are not announced now, polling goes on: %s", first)
            finally:
                self.listening = False
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _listen_once(self, wake: Callable[[], None]) -> None:
        async with await self._connect() as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.listening = True
            while True:
                wake()  # of what was committed while nobody listened
                async for _ in connection.notifies(timeout=self._probe_s):
                    wake()
                await connection.execute("SELECT 1")

    async def _connect(self) -> "psycopg.AsyncConnection[Any]":
        import psycopg  # noqa: PLC0415 - an extra

        dialect = self._url.get_dialect()()
        _, parameters = dialect.create_connect_args(self._url)
        whole: dict[str, Any] = {**parameters, **patience_of(self._url), "autocommit": True}
        return await psycopg.AsyncConnection.connect(**whole)
