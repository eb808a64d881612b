"""Controllers that are killed with SIGKILL while a canary is under way, as processes of their own."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.core.canary import Canary
from gateway.core.documents import Arm
from gateway.core.routes import RouteSpec
from tests import fake_engine
from tests.gateway.controller_house import House
from tests.gateway.people import People
from tests.gateway.test_controller_main import PROGRAM

TIMEOUT_S = 100.0
STABLE, CANDIDATE = "support@1", "support@2"
WAY = [{STABLE: 0.7, CANDIDATE: 0.3}, {STABLE: 0.4, CANDIDATE: 0.6}]


@contextmanager
def controller(folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a controller on the stores in `folder`, and kill it at the end of the block."""
    environment = {
        **os.environ,
        "TURNOUT_STATE_DIR": str(folder),
        "TURNOUT_BASE__MODEL": fake_engine.BASE_MODEL,
        "TURNOUT_ENGINE__URLS": f'["{url}"]',
        "TURNOUT_CONTROLLER__INTERVAL_S": "0.02",
        "TURNOUT_CONTROLLER__LEASE_S": "0.5",
        "TURNOUT_CONTROLLER__CANARY_EVERY_S": "0.02",
    }
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, cwd=folder) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for what a process brings about."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0.0, 1.0])
def test_controllers_that_are_killed_lose_no_step_and_take_none_twice(tmp_path: Path, fails: float) -> None:
    """Killed at random moments while people ask: a good candidate takes its steps, a bad one is sent back."""
    dice = random.Random(4)
    with fake_engine.start() as engine:
        house = House(tmp_path, engine)
        house.requests_db.migrate()
        people = People(house.store, house.requests)
        for seed in (1, 2):
            house.add("support", seed=seed)
        canary = Canary(candidate=CANDIDATE, steps=(0.3, 0.6, 1.0), min_units=20, guardrails={"errors": 0.1})
        spec = RouteSpec(arms=(Arm(adapter=STABLE, share=1.0),), sticky="none", canary=canary)
        house.store.routes.put("support", spec, actor="test")

        def over() -> bool:
            status = house.route("support").status.canary
            return status is not None and not status.live

        killed = 0
        deadline = time.monotonic() + TIMEOUT_S
        while not over() and time.monotonic() < deadline:
            with controller(tmp_path, engine.url) as process:
                wait_for(partial(_at_work, house, process.pid))
                until = time.monotonic() + dice.uniform(0.0, 1.2)
                while time.monotonic() < until and not over():
                    if house.route("support").status.canary is not None:
                        people.ask("support", 10, fails={CANDIDATE: fails})
                    time.sleep(0.01)
            killed += 1
        rows = house.store.epochs.rows("support")
        epochs = [{label: round(share, 9) for label, share in row.arms.items()} for row in rows]
        status = house.route("support").status
        house.database.close()
        house.requests_db.close()
    assert killed >= 2
    assert status.canary is not None
    if fails:
        assert (status.canary.state, epochs) == ("rolled_back", [WAY[0], {STABLE: 1.0}])
    else:
        assert (status.canary.state, epochs) == ("promoted", [*WAY, {CANDIDATE: 1.0}])


def _at_work(house: House, pid: int) -> bool:
    """Whether that process holds the lease."""
    lease = house.store.fleet.controller()
    return lease is not None and f"-{pid}-" in lease[0] and lease[2] > time.time()
