"""The gateway in an environment without torch and vLLM."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 60.0
_PROBE = """
import importlib.util, json, sys
import gateway.app, gateway.controller.main, gateway.cli.main, gateway.supervise.serve
gateway.cli.main.build_app()
heavy = ["torch", "vllm", "transformers", "peft", "bitsandbytes", "numpy", "pandas", "evidently"]
print(json.dumps([name for name in heavy if importlib.util.find_spec(name) or name in sys.modules]))
"""


def test_a_worker_leaves_out_what_only_the_parent_needs() -> None:
    """Alembic is for whoever migrates a store, httpx for controllers, the other commands for people.

    PostgreSQL's dialect is for who has one.
    """
    probe = """
import contextlib, io, sys
import gateway.__main__, gateway.supervise.worker
sys.argv = ["turnout", "worker", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
    gateway.__main__.main()
assert "--admin-fd" in said.getvalue()
unwanted = {"alembic", "httpx", "gateway.cli.main", "gateway.cli.routes", "sqlalchemy.dialects.postgresql"}
print(unwanted & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with requirements/gateway.txt and Turnout, and nothing else."""
    folder = tmp_path_factory.mktemp("light")
    python = folder / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [*install, "-r", str(ROOT / "requirements" / "gateway.txt")],
        [*install, "--no-build-isolation", "--editable", str(ROOT)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_of_the_gateway_imports(light: Path) -> None:
    """Gateway, controller and command line import without any heavy library being there."""
    done = subprocess.run([str(light), "-c", _PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_that_is_required_is_missing(light: Path) -> None:
    """Everything is there that the installed packages require, as pip sees it."""
    done = subprocess.run([str(light), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_serves(light: Path, tmp_path: Path) -> None:
    """The gateway starts and answers there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    environment |= {"TURNOUT_STATE_DIR": str(tmp_path / "state"), "TURNOUT_CACHE": str(tmp_path / "cache")}
    port = _free_port()
    with subprocess.Popen(
        [str(light), "-m", "gateway", "worker"],
        env={**environment, "TURNOUT_SERVER__PORT": str(port)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert _status(f"http://127.0.0.1:{port}/healthz", process) == 200
        finally:
            process.send_signal(2)
            _, said = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, said


def _free_port() -> int:
    from gateway.supervise.engine import free_port

    return free_port()


def _status(url: str, process: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                return client.get(url).status_code
            except httpx.ConnectError:
                time.sleep(0.1)
    raise AssertionError(f"no answer; exit code {process.poll()}")
