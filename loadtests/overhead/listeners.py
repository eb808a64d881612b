"""Many streams read at once: what came, what was lost, and how much the way added to the gaps.

    python -m loadtests.overhead.listeners --url URL --streams 200 --tokens 100 --repeat 2

For the canned engine's streams, whose events carry the moment at which they were written. A gap is *added*
as far as two events arrive further apart than they were written, so neither the engine's own lateness nor
a constant delay counts. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import random
import re
import time
from array import array
from typing import Any

import uvloop

from loadtests.common.canned import CLOCK_WRAP_US
from loadtests.common.http_client import Connection, connect, render
from loadtests.common.machine import pin
from loadtests.common.quantiles import quantile
from loadtests.overhead.bodies import bodies

STREAM_BODY_BYTES = 1024
_WRITTEN = re.compile(rb'"content":\s*" (\d{10})"')


class Tally:
    """What all streams together have seen. Times are in microseconds."""

    def __init__(self) -> None:
        self.complete = 0
        self.lost = 0
        self.tokens = 0
        self.reads = 0
        self.coalesced = 0
        self.delays_us = array("q")
        self.added_us = array("q")


class Listener(Connection):
    """One connection that reads one stream after another."""

    def __init__(self, tally: Tally, *, tokens: int) -> None:
        super().__init__(self._ended)
        self._tally = tally
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[bool] = self._loop.create_future()
        self._rest = b""
        self._seen = 0
        self._done = False
        self._last_delay_us = 0

    def ask(self, request: bytes) -> None:
        """Begin a stream; `ended` tells whether it came whole."""
        self._rest, self._seen, self._done, self._last_delay_us = b"", 0, False, 0
        self.ended = self._loop.create_future()
        self.send(request)

    def on_body(self, data: bytes) -> None:
        """Take note of every event that is complete."""
        text = self._rest + data if self._rest else data
        cut = text.rfind(b"\n\n") + 2
        if cut < 2:
            self._rest = text
            return
        self._rest = text[cut:]
        self._done = self._done or b"data: [DONE]" in text
        written = _WRITTEN.findall(text, 0, cut)
        if not written:
            return
        tally = self._tally
        tally.reads += 1
        tally.coalesced += len(written) > 1
        now_us = time.monotonic_ns() // 1000
        for moment in written:
            delay_us = (now_us - int(moment)) % CLOCK_WRAP_US
            tally.delays_us.append(delay_us)
            if self._seen:
                tally.added_us.append(delay_us - self._last_delay_us)
            self._last_delay_us = delay_us
            self._seen += 1

    def _ended(self, _connection: Connection, status: int) -> None:
        whole = status == 200 and self._done and self._seen == self._tokens
        self._tally.tokens += self._seen
        self._tally.complete += whole
        self._tally.lost += not whole
        self.ended.set_result(whole)


async def _listen(url: str, request: bytes, tally: Tally, options: argparse.Namespace) -> None:
    await asyncio.sleep(options.ramp_s * random.random())
    listener: Connection | None = None
    for _ in range(options.repeat):
        if listener is None or not listener.usable:
            listener = await connect(url, lambda: Listener(tally, tokens=options.tokens))
        assert isinstance(listener, Listener)  # noqa: S101 - connect returns what the factory made
        listener.ask(request)
        await listener.ended
    if listener is not None:
        listener.close()


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    headers = dict(header.split(": ", 1) for header in options.header)
    asked = [
        render(options.url, body, headers)
        for body in bodies(STREAM_BODY_BYTES, stream=True, max_tokens=options.tokens)
    ]
    tally = Tally()
    tasks = [
        asyncio.ensure_future(_listen(options.url, asked[number % len(asked)], tally, options))
        for number in range(options.streams)
    ]
    done, pending = await asyncio.wait(tasks, timeout=options.limit_s)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    errors = [task.exception() for task in done if task.exception() is not None]
    wanted = options.streams * options.repeat
    return {
        "streams": wanted,
        "lost_streams": wanted - tally.complete,
        "tokens": len(tally.delays_us),
        "reads": tally.reads,
        "coalesced_reads": tally.coalesced,
        "first_error": str(errors[0]) if errors else None,
        "delay_us": _spread(tally.delays_us),
        "added_gap_us": _spread(tally.added_us),
    }


def _spread(values: "array[int]") -> dict[str, int]:
    ascending = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: quantile(ascending, share) for name, share in shares.items()}


def main() -> None:
    """Listen until every stream has ended."""
    parser = argparse.ArgumentParser(description="Read many streams of a canned engine at once.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--ramp-s", type=float, default=0.5, help="streams begin spread over this time")
    parser.add_argument("--limit-s", type=float, default=120.0)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    print(json.dumps(uvloop.run(_measure(options))), flush=True)


if __name__ == "__main__":
    main()
