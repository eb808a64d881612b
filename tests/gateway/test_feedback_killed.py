"""kill -9 of a gateway while feedback is posted: what was acknowledged is there, whole."""

import os
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import fake_engine
from tests.fake_engine import BASE_MODEL
from tests.gateway.harness import Store, settings_for, wait_until

pytestmark = pytest.mark.slow

ROUNDS = 6
POSTERS = 4
LONGEST_S = 0.4
PATIENCE_S = 60.0


@contextmanager
def worker(state_dir: Path, listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway process on a socket that outlives it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    environment = {
        **plain,
        "TURNOUT_STATE_DIR": str(state_dir),
        "TURNOUT_BASE__MODEL": "/no/such/base",
        "TURNOUT_BASE__SERVED_NAME": BASE_MODEL,
        # A rating waits for its request's row for a little longer than this, also on a slow disk.
        "TURNOUT_RECORDING__INTERVAL_S": "10",
    }
    command = [sys.executable, "-m", "gateway", "worker", "--fd", str(listener.fileno())]
    with (state_dir / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, pass_fds=[listener.fileno()], cwd=state_dir
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Poster:
    """Asks and rates, over and over, until the gateway is gone; `acknowledged` are values by request."""

    def __init__(self, url: str, name: str) -> None:
        self.acknowledged: list[tuple[str, str]] = []
        self._url = url
        self._name = name
        self.thread = threading.Thread(target=self._run, name=name)

    def _run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S, trust_env=False) as http:
            try:
                while True:
                    number += 1
                    self._ask_and_rate(http, f"{self._name}-{number}")
            except httpx.TransportError:
                return

    def _ask_and_rate(self, http: httpx.Client, value: str) -> None:
        body = {"model": "support", "messages": [{"role": "user", "content": value}]}
        request_id = http.post("/v1/chat/completions", json=body).headers["x-request-id"]
        metrics = {"note": value, "thumbs": True}
        said = http.post("/v1/feedback", json={"request_id": request_id, "metrics": metrics})
        if said.status_code == 200:
            self.acknowledged.append((request_id, value))


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Killed at random moments, the gateway has lost no rating that it confirmed, nor stored half of one."""
    moments = random.Random(5)
    posters: list[Poster] = []
    with fake_engine.start() as engine, socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        store = Store(settings_for(tmp_path))
        store.engines({"e0": engine})
        engine.register(store.version("support"))
        store.attest("e0", engine, "support@1")
        store.route("support", {"support@1": 1.0})
        for round_ in range(ROUNDS):
            with worker(tmp_path, listener) as process:
                now = [Poster(url, f"{round_}-{number}") for number in range(POSTERS)]
                for poster in now:
                    poster.thread.start()
                wait_until(lambda now=now: all(poster.acknowledged for poster in now), PATIENCE_S)
                threading.Event().wait(moments.uniform(0.0, LONGEST_S))
                process.kill()
                process.wait()
            wait_until(lambda now=now: nobody_waits(now, listener), PATIENCE_S)
            posters += now
        rows = store.control.feedback.rows("support")
        requests = {row.id for row in store.requests.window("support", limit=1_000_000)}
        store.close()
    acknowledged = [one for poster in posters for one in poster.acknowledged]
    notes = Counter((row.request_id, row.value) for row in rows if row.metric == "note")
    thumbs = Counter(row.request_id for row in rows if row.metric == "thumbs")
    assert len(acknowledged) >= ROUNDS * POSTERS
    assert [one for one in acknowledged if notes[one] != 1] == []
    assert Counter(request_id for request_id, _ in notes) == thumbs
    assert {request_id for request_id, _ in acknowledged} <= requests


def nobody_waits(posters: list[Poster], listener: socket.socket) -> bool:
    """Whether every poster has ended; connections that the killed process had not taken are closed."""
    listener.setblocking(False)
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        return not any(poster.thread.is_alive() for poster in posters)
    finally:
        listener.setblocking(True)
