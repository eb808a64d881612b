"""Several gateway workers as processes of one `turnout serve`, and how they end."""

import concurrent.futures
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.store.control import ControlStore
from gateway.store.database import Database
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine
from tests.gateway.harness import wait_until
from tests.gateway.test_supervise_whole import Served

CHAT = "/v1/chat/completions"
BODY = {"model": BASE_MODEL, "messages": [{"role": "user", "content": "hello"}]}
PATIENCE_S = 60.0
pytestmark = pytest.mark.slow


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """The engine that they are attached to."""
    with fake_engine.start() as engine:
        yield engine


@pytest.fixture
def served(tmp_path: Path, engine: FakeEngine) -> Iterator[Served]:
    """Two workers that are ready, with some seconds between readiness and the end."""
    served = Served(tmp_path, engine.url, "--no-examples", "--workers", "2", drain_delay_s=8.0)
    try:
        served.await_line("Turnout is ready")
        yield served
    finally:
        served.process.kill()
        served.process.wait()


def workers(served: Served) -> list[psutil.Process]:
    """The two gateway processes."""
    return [process for process in served.family() if "worker" in process.cmdline()[3:5]]


def asked(served: Served) -> httpx.Response:
    """Send one request on a connection of its own; the answer."""
    return httpx.post(f"{served.url}{CHAT}", json=BODY, trust_env=False, timeout=PATIENCE_S)


def ask(served: Served) -> int:
    """Send one request on a connection of its own; the status."""
    return asked(served).status_code


def metric(served: Served, name: str) -> float:
    """The sum of a metric's samples, whichever worker answers."""
    text = httpx.get(f"{served.url}/metrics", trust_env=False, timeout=PATIENCE_S).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def settle(served: Served) -> None:
    """Wait until both workers serve the store's present table. Each connection goes to either, by chance."""
    database = Database(f"sqlite:///{served.log.parent / 'state' / 'control.db'}", "control")
    try:
        wanted = ControlStore(database).generation()
    finally:
        database.close()

    def generation() -> int:
        report = httpx.get(f"{served.url}/readyz", trust_env=False, timeout=PATIENCE_S).json()
        return int(report["table"]["generation"])

    wait_until(lambda: all(generation() >= wanted for _ in range(16)), PATIENCE_S)


def test_two_workers_are_one_gateway(served: Served) -> None:
    """Either answers; `/metrics` speaks for both, also after one was killed and started again."""
    assert len(workers(served)) == 2
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert {future.result() for future in [threads.submit(ask, served) for _ in range(60)]} == {200}
    wait_until(lambda: metric(served, "turnout_requests_total") == 60)
    wait_until(lambda: metric(served, "turnout_workers") == 2)  # each has heard of the other
    assert metric(served, "turnout_replica_share") == 256
    victim = workers(served)[0]
    victim.kill()
    victim.wait(PATIENCE_S)
    wait_until(lambda: metric(served, "turnout_requests_total") == 60)
    assert ask(served) == 200
    wait_until(lambda: metric(served, "turnout_requests_total") == 61)
    served.await_line("it starts again in 1 s")
    wait_until(lambda: len(workers(served)) == 2, PATIENCE_S)
    for _ in range(20):
        assert ask(served) == 200
        assert metric(served, "turnout_requests_total") >= 61
    wait_until(lambda: metric(served, "turnout_requests_total") == 81)


def test_they_keep_one_limit(served: Served) -> None:
    """Of a crowd of requests as many pass as the limit says, whichever worker takes them, and no more."""
    limit = {"requests_per_minute": 30}
    httpx.put(f"{served.url}/admin/limits/tenant/default", json=limit, trust_env=False).raise_for_status()
    settle(served)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        statuses = [answer.status_code for answer in threads.map(lambda _: asked(served), range(90))]
    assert set(statuses) == {200, 429}
    assert 15 <= statuses.count(200) <= 30  # what one holds the other one can't use at once


def test_they_drain(served: Served, engine: FakeEngine) -> None:
    """After SIGTERM readiness is red while new connections are served; streams end well; rows are written."""
    engine.knobs.tokens, engine.knobs.token_delay_s = 30, 0.1
    with (
        httpx.Client(base_url=served.url, trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", CHAT, json={**BODY, "stream": True}) as stream,
    ):
        pieces = stream.iter_text()
        got = next(pieces)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{served.url}/readyz", trust_env=False).status_code == 503)
        engine.knobs.tokens = 2
        assert ask(served) == 200  # a new connection, within the delay
        wait_until(lambda: not listens(served), PATIENCE_S)
        got += "".join(pieces)
    assert got.count("data: ") == 32
    assert got.endswith("data: [DONE]\n\n")
    assert served.process.wait(PATIENCE_S) == 0
    database = Database(f"sqlite:///{served.log.parent / 'state' / 'requests.db'}", "requests")
    try:
        with database.read() as connection:
            found = connection.exec_driver_sql("SELECT status, streamed FROM requests ORDER BY at").all()
    finally:
        database.close()
    assert [tuple(row) for row in found] == [(200, 1), (200, 0)]


def listens(served: Served) -> bool:
    """Whether new connections are taken."""
    try:
        httpx.get(f"{served.url}/healthz", trust_env=False, timeout=1.0)
    except (httpx.ConnectError, httpx.ReadError):  # refused, or thrown out of the queue as it closed
        return False
    return True
