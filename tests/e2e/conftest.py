"""The whole service, started once as a user would: `turnout serve` on the real engine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

START_S = 300
STOP_S = 60
# The engine refuses tools without a parser for their calls; the clients' tests use some.
TOOL_PARSER = '["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the engine, and gets the time that it takes."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.timeout(1800))


@dataclass(frozen=True)
class Service:
    """A running `turnout serve`."""

    url: str
    state_dir: Path
    log: Path
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """The environment of a user's terminal beside it: the tools on the path, the address set."""
        tools = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "TURNOUT_URL": self.url,
            "TURNOUT_STATE_DIR": str(self.state_dir),
        }

    def turnout(self, *arguments: str, timeout: float = 300) -> str:
        """Run the CLI and return what it printed; a failure shows what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"turnout {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(state_dir: Path, *arguments: str) -> Iterator[Service]:
    """Run `turnout serve` until the block ends, then stop it as Ctrl-C does and look that nothing is left."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = state_dir.with_suffix(".log")
    environment = {
        **os.environ,
        "TURNOUT_STATE_DIR": str(state_dir),
        "TURNOUT_ENGINE__EXTRA_ARGS": TOOL_PARSER,
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--port", str(port), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    family: list[psutil.Process] = []
    try:
        _await_ready(url, process, log)
        family = psutil.Process(process.pid).children(recursive=True)
        yield Service(url, state_dir, log, process)
    finally:
        family = family or psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, f"left behind: {alive}"


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        with contextlib.suppress(httpx.HTTPError):
            if _routes_active(url):
                return
        time.sleep(0.5)
    raise AssertionError(f"not ready after {START_S} s:\n{log.read_text(errors='replace')[-4000:]}")


def _routes_active(url: str) -> bool:
    if httpx.get(f"{url}/readyz").status_code != 200:
        return False
    routes = json.loads(httpx.get(f"{url}/admin/routes").content)
    listed = routes["data"]
    return len(listed) >= 3 and all(route["status"]["state"] == "active" for route in listed)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of this folder: an engine takes half a minute to start."""
    with serving(tmp_path_factory.mktemp("service") / "state") as running:
        yield running
