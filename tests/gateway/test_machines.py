"""Two machines that share one PostgreSQL: changes, a controller that dies, a machine that dies, settings.

Workers poll once a minute here, so that what they hear of in time was announced.
"""

import concurrent.futures
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.store.control import ControlStore
from gateway.store.database import Database
from tests import fake_engine
from tests.gateway.harness import wait_until
from tests.gateway.test_supervise_whole import Served, _all_gone
from tests.postgresql import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("machines")]
PASSWORD = "swordfish"
ADMIN_KEY = "the-key-of-this-test"
PATIENCE_S = 30.0
SETTINGS = """
[auth]
poll_s = 60
[controller]
interval_s = 0.1
lease_s = 1
"""


@dataclass
class Machines:
    """Two running services, `a` and `b`, and the store that they share."""

    a: Served
    b: Served
    control: ControlStore

    def holder(self) -> tuple[int, int]:
        """The process of the controller that leads, and its epoch."""
        held = self.control.fleet.controller()
        assert held is not None
        return int(held[0].rsplit("-", 2)[1]), held[1]


@contextlib.contextmanager
def machine(folder: Path, engine_url: str, store_url: str, pepper: Path) -> Iterator[Served]:
    """Start one machine with a folder of its own."""
    folder.mkdir()
    (folder / "turnout.toml").write_text(SETTINGS)
    settings = {
        "TURNOUT_STORE__CONTROL_URL": store_url,
        "TURNOUT_STORE__REQUESTS_URL": store_url,
        "TURNOUT_AUTH__PEPPER_FILE": str(pepper),
        "TURNOUT_AUTH__ADMIN_KEY": ADMIN_KEY,
    }
    served = Served(folder, engine_url, "--no-examples", settings=settings)
    try:
        yield served
    finally:
        served.process.send_signal(signal.SIGINT)
        served.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, postgresql: Server) -> Iterator[Machines]:
    """Both, ready."""
    folder = tmp_path_factory.mktemp("machines")
    (folder / "pepper").write_bytes(os.urandom(32))
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(fake_engine.start())
        url = stack.enter_context(postgresql.database())
        known = url.replace("turnout@", f"turnout:{PASSWORD}@")
        a, b = (
            stack.enter_context(machine(folder / name, engine.url, known, folder / "pepper")) for name in "ab"
        )
        for served in (a, b):
            served.await_line("Turnout is ready")
        database = Database(url, "control")
        stack.callback(database.close)
        yield Machines(a, b, ControlStore(database))


def ask(served: Served, method: str, path: str, *, key: str = ADMIN_KEY, body: Any = None) -> httpx.Response:
    """Ask a machine."""
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{served.url}{path}"
    return httpx.request(method, url, json=body, headers=headers, timeout=PATIENCE_S, trust_env=False)


def put_route(served: Served, name: str) -> None:
    """Make a route to the base model at one machine."""
    spec = {"spec": {"arms": [{"adapter": "base", "share": 1.0}]}}
    answer = ask(served, "PUT", f"/admin/routes/{name}", body=spec)
    assert answer.status_code in (200, 202), answer.text


def complete(served: Served, name: str, *, key: str = ADMIN_KEY) -> httpx.Response:
    """Ask for one token of a route."""
    return ask(
        served, "POST", "/v1/completions", key=key, body={"model": name, "prompt": "x", "max_tokens": 1}
    )


def answers(served: Served, name: str) -> bool:
    """Whether a machine answers on a route."""
    return complete(served, name).status_code == 200


def metric(served: Served, name: str) -> float:
    """The value of a metric without labels that matter."""
    text = httpx.get(f"{served.url}/metrics", trust_env=False).text
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_a_change_reaches_every_machine(machines: Machines) -> None:
    """What is changed at one machine is served by the other as soon as it is committed, without a poll."""
    for number, (here, there) in enumerate(((machines.a, machines.b), (machines.b, machines.a))):
        put_route(here, f"route-{number}")
        for served in (here, there):  # which of them hears of it first is not said
            wait_until(lambda served=served, number=number: answers(served, f"route-{number}"), PATIENCE_S)  # type: ignore[misc]


def test_requests_of_both_are_recorded_together(machines: Machines) -> None:
    """Rows of either machine are found at the other."""
    answer = complete(machines.a, "route-0")
    rating = {"request_id": answer.headers["x-request-id"], "metric": "thumbs", "value": True}

    def rated() -> bool:
        return ask(machines.b, "POST", "/v1/feedback", body=rating).status_code in (200, 201)

    wait_until(rated, PATIENCE_S)


def test_keys_are_the_same_everywhere(machines: Machines) -> None:
    """Made at one machine a key works at the other; revoked there it ends at both, and no poll is needed."""
    made = ask(machines.a, "POST", "/admin/keys", body={"tenant": "shop", "models": ["route-0"]}).json()

    def gets(status: int) -> bool:
        both = (complete(served, "route-0", key=made["key"]) for served in (machines.a, machines.b))
        return all(answer.status_code == status for answer in both)

    wait_until(lambda: gets(200), PATIENCE_S)
    fresh = ask(machines.b, "POST", f"/admin/keys/{made['id']}/rotate", body={"grace_hours": 0}).json()
    wait_until(lambda: gets(401), PATIENCE_S)
    made = fresh
    wait_until(lambda: gets(200), PATIENCE_S)
    assert ask(machines.b, "DELETE", f"/admin/keys/{made['id']}").status_code == 200
    wait_until(lambda: gets(401), PATIENCE_S)


def test_a_limit_holds_over_both(machines: Machines) -> None:
    """Of many requests at once at both machines as many pass as the limit says: all of it, and no more."""
    made = ask(machines.a, "POST", "/admin/keys", body={"limits": {"requests_per_minute": 20}}).json()
    wait_until(lambda: complete(machines.b, "route-0", key=made["key"]).status_code == 200, PATIENCE_S)
    passed = 1

    def another() -> bool:
        nonlocal passed
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            both = [machines.a, machines.b] * 8
            found = threads.map(lambda served: complete(served, "route-0", key=made["key"]), both)
            passed += sum(answer.status_code == 200 for answer in found)
        return passed >= 20

    wait_until(another, PATIENCE_S)
    assert passed == 20


def test_settings_are_read_again(machines: Machines) -> None:
    """SIGHUP takes what can be taken, says what can't, and leaves everything as it was when it is wrong."""
    served = machines.a
    file = served.log.parent / "turnout.toml"
    served.process.send_signal(signal.SIGHUP)
    served.await_line("settings read again: nothing to take")
    file.write_text(SETTINGS + "[limits]\nmax_in_flight_per_replica = 64\nmax_body_bytes = 1000000\n")
    before = metric(served, "turnout_replica_share")
    served.process.send_signal(signal.SIGHUP)
    served.await_line(
        "settings read again: limits.max_in_flight_per_replica; these need a restart: limits.max_body_bytes"
    )
    wait_until(lambda: metric(served, "turnout_replica_share") == before / 4, PATIENCE_S)
    file.write_text("[limits]\nmax_queue = -1\n")
    served.process.send_signal(signal.SIGHUP)
    served.await_line("the settings are not taken, those of before stay")
    assert metric(served, "turnout_replica_share") == before / 4


def test_a_controller_that_dies(machines: Machines) -> None:
    """Killed outright, it is followed by another one, and changes go on to take effect everywhere."""
    pid, epoch = machines.holder()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: machines.holder()[1] > epoch, PATIENCE_S)
    assert machines.holder()[0] != pid
    put_route(machines.a, "after-the-controller")
    for served in (machines.a, machines.b):
        wait_until(lambda served=served: answers(served, "after-the-controller"), PATIENCE_S)  # type: ignore[misc]


def test_logs_are_lines_of_json(machines: Machines) -> None:
    """Supervisor, gateway and controller log objects only, and no password is in any of them."""
    for served in (machines.a, machines.b):
        text = served.log.read_text()
        found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        assert {line["process"] for line in found} >= {"serve", "controller"}
        assert all(line["time"] and line["level"] and line["logger"] for line in found)
        assert PASSWORD not in text


def test_a_machine_that_dies(machines: Machines) -> None:
    """Without its supervisor a machine is gone at once; the other one leads and serves on."""
    _, epoch = machines.holder()
    family = machines.a.family()
    machines.a.process.kill()
    machines.a.process.wait()
    assert _all_gone(family)
    wait_until(lambda: machines.holder()[0] in {one.pid for one in machines.b.family()}, PATIENCE_S)
    held = machines.control.fleet.controller()
    assert held is not None
    assert held[1] >= epoch
    assert held[2] > time.time() - PATIENCE_S
    leads = machines.holder()[0]
    put_route(machines.b, "after-the-machine")
    wait_until(lambda: answers(machines.b, "after-the-machine"), PATIENCE_S)
    assert psutil.pid_exists(leads)
