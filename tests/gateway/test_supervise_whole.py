"""`turnout serve` as a process, attached to a fake engine: start, refusals, and that nothing is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.supervise.engine import free_port
from tests import fake_engine

_PATIENCE_S = 60.0
pytestmark = pytest.mark.slow


class Served:
    """A running `turnout serve`."""

    def __init__(
        self,
        folder: Path,
        engine_url: str,
        *arguments: str,
        drain_delay_s: float = 0.1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "serve.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
        self._environment = {
            **environment,
            "TURNOUT_STATE_DIR": str(folder / "state"),
            "TURNOUT_CACHE": str(folder / "cache"),
            "TURNOUT_SERVER__DRAIN_DELAY_S": str(drain_delay_s),
            **(settings or {}),
        }
        self._command = [sys.executable, "-m", "gateway", "serve", "--engine-url", engine_url, *arguments]
        self._folder = folder
        self.process = self.start(self.log)

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        port = self.url.rsplit(":", 1)[1]
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self._command, "--port", port],
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    def await_line(self, text: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} in:\n{self.log.read_text()}")
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """One that is ready, without examples."""
    with fake_engine.start() as engine:
        served = Served(tmp_path, engine.url, "--no-examples")
        try:
            served.await_line("Turnout is ready")
            yield served
        finally:
            served.process.kill()
            served.process.wait()


def _all_gone(family: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(family, timeout=_PATIENCE_S)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_start_and_stop(signum: signal.Signals, served: Served) -> None:
    """It answers when it says so, and a signal ends it with code 0 and everything that it started."""
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/readyz").status_code == 200
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [fake_engine.BASE_MODEL]
    family = served.family()
    assert len(family) >= 4  # controller and gateway, and a minder of each
    served.process.send_signal(signum)
    assert served.process.wait(_PATIENCE_S) == 0
    assert _all_gone(family)


def test_kill_9_leaves_nothing(served: Served) -> None:
    """Killed outright, it takes gateway and controller along, and the next one starts at once."""
    family = served.family()
    served.process.kill()
    served.process.wait()
    assert _all_gone(family)
    served.process = served.start(served.log)
    served.await_line("Turnout is ready")


def test_a_second_one_is_refused(served: Served, tmp_path: Path) -> None:
    """In the same state directory a second one ends with a message, and the first serves on."""
    second = served.start(tmp_path / "second.log")
    assert second.wait(_PATIENCE_S) == 1
    said = (tmp_path / "second.log").read_text()
    assert f"process {served.process.pid} serves from" in said
    with contextlib.closing(httpx.Client(trust_env=False)) as client:
        assert client.get(f"{served.url}/readyz").status_code == 200


def test_a_gateway_that_dies_comes_back(served: Served) -> None:
    """A gateway that is killed is started again on the same socket, and connections wait for it."""
    (worker,) = [process for process in served.family() if "worker" in process.cmdline()[3:5]]
    worker.kill()
    served.await_line("it starts again in 1 s")
    with httpx.Client(trust_env=False, timeout=_PATIENCE_S) as client:
        assert client.get(f"{served.url}/readyz").status_code == 200
