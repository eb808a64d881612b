"""The load of `bench-fairness`: requests at a pace, and crowds that send the next after each answer."""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from loadtests.common.http_client import Connection, connect, render
from loadtests.common.processes import StartFailed
from tests.fake_engine import BASE_MODEL

PATH = "/v1/chat/completions"
SHORTEST, LONGEST = 4, 40
MOST_OPENED = 4000
"""Connections that are tried for some at a certain worker."""

ACCEPT_S = 0.5


@dataclass
class Counts:
    """What became of requests. `while_full`: answers that came before the crowd was told to stop."""

    latencies_ms: list[float] = field(default_factory=list)
    while_full: int = 0
    failed: int = 0


class Client:
    """The admin API."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    def admin(self, method: str, path: str, body: Any) -> Any:
        """Call it; return what it says."""
        answer = httpx.request(
            method, self._url + path, json=body, headers=self._headers, timeout=30, trust_env=False
        )
        answer.raise_for_status()
        return answer.json()


class Asker:
    """One connection, on which one request after another is sent."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self.port = 0
        self._connection: Connection | None = None
        self._answered: asyncio.Future[int] | None = None

    async def ask(self, tokens: int) -> int:
        """Send a request for so many tokens; return its status, 0 when the connection broke."""
        if self._connection is None or not self._connection.usable:
            await self.open()
        assert self._connection is not None  # noqa: S101 - it was opened
        body = {
            "model": BASE_MODEL,
            "messages": [{"role": "user", "content": "a question"}],
            "max_tokens": tokens,
        }
        headers = {"Authorization": f"Bearer {self._key}"}
        self._answered = asyncio.get_running_loop().create_future()
        self._connection.send(render(self._url + PATH, json.dumps(body).encode(), headers))
        return await self._answered

    async def open(self) -> None:
        """Open the connection."""
        self._connection = await connect(self._url, lambda: Connection(self._done))
        self.port = int(self._connection.local_port or 0)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _done(self, _connection: Connection, status: int) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)


async def paced(
    url: str, key: str, *, per_second: float, seconds: float, dice: random.Random, counts: Counts
) -> None:
    """Send requests at a pace, whether or not answers come; latencies count from when each was due."""
    idle: list[Asker] = []
    tasks: set[asyncio.Task[None]] = set()
    began = time.perf_counter()

    async def one(due: float, tokens: int) -> None:
        asker = (
            idle.pop(0) if idle else Asker(url, key)
        )  # the one that rested longest: each worker has its turn
        status = await asker.ask(tokens)
        counts.latencies_ms.append((time.perf_counter() - due) * 1000)
        counts.failed += status != 200
        idle.append(asker)

    due = began
    while (due := due + dice.expovariate(per_second)) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.add(asyncio.create_task(one(due, dice.randint(SHORTEST, LONGEST))))
    await asyncio.gather(*tasks)
    for asker in idle:
        asker.close()


async def crowd(
    url: str,
    wanted: dict[str, int],
    stop: asyncio.Event,
    *,
    dice: random.Random,
    at: Mapping[str, Sequence[int]] | None = None,
    ready: asyncio.Event | None = None,
) -> dict[str, Counts]:
    """Keep so many requests of each key under way until told to stop; return what became of them by key.

    `at`: which workers, by their process ids, have a key's connections, each as many; `ready` is set when
    they are open.
    """
    counts = {key: Counts() for key in wanted}
    askers = {}
    for key, count in wanted.items():
        workers = (at or {}).get(key, ())
        askers[key] = [
            asker
            for worker in workers
            for asker in await _at_one_worker(url, key, count // len(workers), worker)
        ] or [Asker(url, key) for _ in range(count)]

    if ready is not None:
        ready.set()

    async def go_on(asker: Asker, mine: Counts) -> None:
        while not stop.is_set():
            status = await asker.ask(dice.randint(SHORTEST, LONGEST))
            mine.failed += status != 200
            mine.while_full += not stop.is_set()
        asker.close()

    await asyncio.gather(*(go_on(asker, counts[key]) for key, mine in askers.items() for asker in mine))
    return counts


async def _at_one_worker(url: str, key: str, count: int, worker: int) -> list[Asker]:
    """Return askers whose connections one worker has taken, told by the sockets that its process has."""
    mine: list[Asker] = []
    for _ in range(MOST_OPENED // count):
        opened = [Asker(url, key) for _ in range(count)]
        for asker in opened:
            await asker.open()
        await asyncio.sleep(ACCEPT_S)
        taken = {
            connection.raddr.port
            for connection in psutil.Process(worker).net_connections("tcp4")
            if connection.raddr
        }
        for asker in opened:
            if asker.port in taken and len(mine) < count:
                mine.append(asker)
            else:
                asker.close()
        if len(mine) == count:
            return mine
    raise StartFailed(f"the worker {worker} takes no connections")
