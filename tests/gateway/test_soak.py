"""Many requests at once with clients that leave and engines that fail: at the end nothing is left."""

import asyncio
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import fake_engine
from tests.fake_engine import FakeEngine, Knobs
from tests.gateway.harness import Gateway, running, settings_for, wait_until

pytestmark = pytest.mark.slow

AT_ONCE = 48
FAULTS: list[dict[str, Any]] = [
    {},
    {},
    {"token_delay_s": 0.002, "tokens": 20},
    {"start_delay_s": 0.02},
    {"drop_after_chunks": 2},
    {"end_after_chunks": 2},
    {"error_after_chunks": 1},
    {"close_before_headers": True},
    {"fail_status": 500},
    {"fail_status": 429},
    {"fail_status": 503},
    {"answer_as_base": True},
    {"hang": True},
]
LEAVING = ("never", "never", "at once", "soon", "after a piece")


async def ask(address: tuple[str, int], number: int, rng: random.Random) -> str:
    """Send one request, and perhaps leave before its end; the status, or `left`."""
    body = json.dumps(
        {
            "model": "support",
            "messages": [{"role": "user", "content": "hello"}],
            "seed": number,
            "stream": rng.random() < 0.5,
        }
    ).encode()
    leaving = rng.choice(LEAVING)
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        if leaving == "at once":
            return "left"
        if leaving == "soon":
            await asyncio.sleep(rng.random() * 0.03)
            return "left"
        if leaving == "after a piece":
            await reader.read(200)
            return "left"
        return (await reader.read(-1))[9:12].decode()
    finally:
        writer.transport.abort()


async def ask_many(address: tuple[str, int], count: int, rng: random.Random) -> Counter[str]:
    """Send `count` requests, AT_ONCE at a time."""
    ends: Counter[str] = Counter()
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            ends[await ask(address, number, rng)] += 1

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return ends


def torment(gateway: Gateway, engines: list[FakeEngine], stop: threading.Event, rng: random.Random) -> None:
    """Give the engines other faults all the time; now and then one dies and comes back.

    The gateway's circuits are closed all the time too: otherwise it would soon refuse nearly everything.
    """
    while not stop.wait(0.03):
        engine = rng.choice(engines)
        if rng.random() < 0.3:
            gateway.calm()
        if rng.random() < 0.02:
            engine.dead = True
            engine.close_connections()
            stop.wait(0.2)
            engine.restart()
            engine.register("support@1")
        engine.knobs = Knobs(**rng.choice(FAULTS))
    for engine in engines:
        engine.knobs = Knobs()


def tasks(gateway: Gateway) -> int:
    """How many tasks the gateway's loop has."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), gateway.loop).result(10)


@pytest.mark.parametrize(
    "count", [600, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_nothing_is_left_behind(count: int, tmp_path: Path) -> None:
    """No lease, slot, task or in-flight count survives, every request has a row, and it still serves."""
    settings = settings_for(
        tmp_path,
        limits={
            "max_in_flight_per_replica": 12,
            "max_queue": 16,
            "queue_timeout_s": 0.3,
            "first_byte_timeout_s": 0.4,
            "idle_timeout_s": 0.3,
            "connect_timeout_s": 0.5,
        },
        recording={"interval_s": 0.02, "queue_size": 100_000},
    )
    rng = random.Random(7)
    with (
        fake_engine.start() as first,
        fake_engine.start() as second,
        running(settings) as gateway,
    ):
        engines = [first, second]
        store = gateway.store
        store.engines({"e0": first, "e1": second})
        label = store.version("support")
        for name, engine in zip(("e0", "e1"), engines, strict=True):
            engine.register(label)
            store.attest(name, engine, label)
        store.route("support", {label: 1.0})
        gateway.settle()
        wait_until(gateway.nothing_is_left)
        quiet = tasks(gateway)
        stop = threading.Event()
        tormentor = threading.Thread(target=torment, args=(gateway, engines, stop, rng))
        tormentor.start()
        address = httpx.URL(gateway.url)
        try:
            ends = asyncio.run(ask_many((address.host, address.port or 0), count, rng))
        finally:
            stop.set()
            tormentor.join()
        assert ends.total() == count
        assert ends["200"] > count / 20
        wait_until(gateway.nothing_is_left)
        wait_until(lambda: tasks(gateway) <= quiet)
        wait_until(lambda: all(engine.running == 0 for engine in engines))
        check_rows(gateway)
        gateway.calm()
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "support", "messages": [{"role": "user", "content": "still there?"}]},
        )
        assert answer.status_code == 200


def check_rows(gateway: Gateway) -> None:
    """Each request that was counted for the route has its row; one that was not resolved names no route."""
    text = httpx.get(f"{gateway.url}/metrics").text
    counted = sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("turnout_requests_total{") and 'route="support"' in line
    )
    assert gateway.metric("turnout_records_dropped_total") == 0
    wait_until(lambda: gateway.metric("turnout_record_queue_rows") == 0)
    assert len(gateway.store.requests.window("support", limit=100_000)) == counted
