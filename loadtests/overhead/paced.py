"""An open-loop load: requests leave at a stated rate, whether or not answers come (no coordinated omission).

    python -m loadtests.overhead.paced --url URL --rate 5000 --seconds 4 --bodies FILE --body-bytes 1024

Arrivals are even, in steps of a millisecond, the resolution of the loop's timers. Prints one line of
JSON; latencies run from the moment at which a request was due.
"""

import argparse
import asyncio
import json
import random
import time
from collections import deque
from pathlib import Path

import uvloop

from loadtests.common.http_client import Connection, connect, render
from loadtests.common.machine import pin
from loadtests.common.quantiles import quantile

STEP_S = 0.001
DRAIN_S = 10.0


class Load:
    """The requests that are due, the connections that are free, and what came of the requests."""

    def __init__(self, requests: list[bytes], *, rate: float, seconds: float) -> None:
        self._requests = requests
        self._rate = rate
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._free: list[Connection] = []
        self._due: deque[float] = deque()
        self._sent = 0
        self.latencies_us: list[int] = []
        self.failed = 0
        self.seconds = 0.0

    async def run(self, url: str, connections: int) -> None:
        """Send everything and wait for the answers, `DRAIN_S` at most."""
        everyone = [await connect(url, lambda: Connection(self._answered)) for _ in range(connections)]
        self._free = list(everyone)
        began = self._loop.time()
        due = 0
        while (passed := self._loop.time() - began) < self._seconds:
            target = int(passed * self._rate + random.random())
            for _ in range(max(0, target - due)):
                self._due.append(time.monotonic())
            due = max(due, target)
            self._dispatch()
            await asyncio.sleep(STEP_S)
        deadline = self._loop.time() + DRAIN_S
        while len(self.latencies_us) + self.failed < due and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(STEP_S)
        self.seconds = self._loop.time() - began
        self.failed += due - len(self.latencies_us) - self.failed
        for connection in everyone:
            connection.close()

    def _dispatch(self) -> None:
        while self._due and self._free:
            connection = self._free.pop()
            if not connection.usable:
                continue
            connection.due = self._due.popleft()
            connection.send(self._requests[self._sent % len(self._requests)])
            self._sent += 1

    def _answered(self, connection: Connection, status: int) -> None:
        if status == 200:
            self.latencies_us.append(int((time.monotonic() - connection.due) * 1e6))
        else:
            self.failed += 1
        if connection.usable:
            self._free.append(connection)
        if self._due:
            self._dispatch()


async def _measure(options: argparse.Namespace, raw: bytes) -> dict[str, float]:
    size = options.body_bytes
    headers = dict(header.split(": ", 1) for header in options.header)
    requests = [render(options.url, raw[at : at + size], headers) for at in range(0, len(raw), size)]
    load = Load(requests, rate=options.rate, seconds=options.seconds)
    await load.run(options.url, options.connections)
    latencies = sorted(load.latencies_us)
    return {
        "finished": len(latencies),
        "failed": load.failed,
        "seconds": round(load.seconds, 3),
        "p50_us": quantile(latencies, 0.5),
        "p99_us": quantile(latencies, 0.99),
    }


def main() -> None:
    """Run one load."""
    parser = argparse.ArgumentParser(description="An open-loop load on one URL.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bodies", required=True)
    parser.add_argument("--body-bytes", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    print(json.dumps(uvloop.run(_measure(options, Path(options.bodies).read_bytes()))), flush=True)


if __name__ == "__main__":
    main()
