"""The controller as a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.store.control import ControlStore
from gateway.store.database import Database
from tests import fake_engine

PROGRAM = (
    "import sys; from gateway import settings; from gateway.controller.main import run; "
    "sys.exit(run(settings.load()))"
)


@pytest.mark.slow
def test_the_process_attaches_engines_and_stops_in_good_order(tmp_path: Path) -> None:
    """It makes the store, enters the engines of its settings, works, and on SIGTERM gives the lease back."""
    with fake_engine.start() as engine:
        environment = {
            **os.environ,
            "TURNOUT_STATE_DIR": str(tmp_path),
            "TURNOUT_ENGINE__URLS": f'["{engine.url}"]',
            "TURNOUT_CONTROLLER__INTERVAL_S": "0.05",
        }
        database = Database(f"sqlite:///{tmp_path / 'control.db'}", "control")
        database.migrate()
        store = ControlStore(database)
        with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path) as process:
            try:
                deadline = time.monotonic() + 60
                while not any(row.healthy for row in store.fleet.replicas()):
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        held = store.fleet.controller()
        database.close()
    assert held is not None
    assert held[2] == 0.0
    assert engine.incarnation == store.fleet.replicas()[0].incarnation


@pytest.mark.slow
def test_a_store_that_cannot_be_opened_ends_the_process(tmp_path: Path) -> None:
    """Without a store there is nothing to control: exit code 1, and the log says why."""
    environment = {**os.environ, "TURNOUT_STORE__CONTROL_URL": f"sqlite:///{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the control store can't be opened" in done.stderr
    assert "Traceback" not in done.stderr
