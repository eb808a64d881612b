"""Controllers with their real wiring, as processes that are killed while a run is under way."""

import json
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

from gateway.core.loop import LoopPolicy
from gateway.loops.run import STATES
from gateway.store.loop import new_id
from tests import fake_engine
from tests.gateway.controller_house import House
from tests.gateway.looping.world import FAKE, RESULTS
from tests.gateway.loops import made
from tests.gateway.loops.made import CURATED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
TIMEOUT_S = 100.0
PROGRAM = f"""
import sys
from gateway import settings
from gateway.controller import main
from gateway.controller.looping import commands
commands.PROGRAMS = {{state: (sys.executable, "-S", {str(FAKE)!r}, state) for state in commands.PROGRAMS}}
commands.NEEDS = {{}}
sys.exit(main.run(settings.load()))
"""


@contextmanager
def controller(folder: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a controller on the stores in `folder`; kill it at the end of the block."""
    environment = {
        **os.environ,
        "TURNOUT_STATE_DIR": str(folder),
        "TURNOUT_BASE__MODEL": fake_engine.BASE_MODEL,
        "TURNOUT_ENGINE__URLS": f'["{url}"]',
        "TURNOUT_CONTROLLER__INTERVAL_S": "0.02",
        "TURNOUT_CONTROLLER__LEASE_S": "0.5",
        "TURNOUT_LOOP__EVERY_S": "0.02",
        "TURNOUT_LOOP__MIN_FREE_GIB": "0",
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


def _state(house: House) -> str | None:
    rows = house.store.loops.rows("support", limit=1)
    return rows[0].state if rows else None


def _is_at(house: House, moment: str) -> bool:
    """Whether the run has come to a state, or is past it."""
    state = _state(house)
    return state is not None and STATES.index(state) >= STATES.index(moment)


def test_controllers_that_are_killed_start_each_step_once(tmp_path: Path) -> None:
    """Killed in each step they bring the version to its canary; no step works twice, and none is lost."""
    dice = random.Random(7)
    results = {**RESULTS, "curating": {**CURATED, "trusted_held_out_new": 500}}
    (tmp_path / "plan.json").write_text(json.dumps({"results": results, "seconds": 0.5}))
    with fake_engine.start() as engine:
        house = House(tmp_path, engine)
        house.requests_db.migrate()
        for seed in (1, 2):
            house.add("support", seed=seed)
        spec = house.route("support").spec.model_copy(update={"loop": LoopPolicy(max_retries=0)})
        house.store.routes.put("support", spec, actor="ada")
        begun = made.run(id=new_id(), created_at=time.time(), since=time.time())
        for moment in ("curating", "training", "gating"):
            with controller(tmp_path, engine.url):
                wait_for(lambda: house.route("support").status.state == "active")
                if moment == "curating":
                    house.store.loops.begin(begun)
                wait_for(partial(_is_at, house, moment))
                time.sleep(dice.uniform(0.0, 0.3))
        with controller(tmp_path, engine.url):  # the candidate's canary is a real one
            wait_for(lambda: house.route("support").status.canary is not None)
        state, spec = _state(house), house.route("support").spec
        house.database.close()
        house.requests_db.close()
    assert state == "canary"
    assert spec.canary is not None
    assert spec.canary.candidate == "support@2"
    starts = [line.split()[1] for line in (tmp_path / "steps.log").read_text().splitlines()]
    assert starts == ["curating", "training", "gating"]
