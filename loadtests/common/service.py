"""A whole service for a load: `turnout serve` over given engines, started, asked, stopped without a trace."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.common.machine import ROOT
from loadtests.common.processes import Process, StartFailed, clean_environment, free_port, started, wait_for

START_S = 120.0
ENGINE_START_S = 300.0
STOP_S = 90.0
FAKE_CPU_LORAS = 16


@dataclass(frozen=True)
class Service:
    """A running `turnout serve`: its address, its processes and its folder."""

    url: str
    process: Process
    state_dir: Path
    environment: Mapping[str, str]

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return what it says.

        Raises:
            httpx.HTTPError: it refuses or does not answer.
        """
        answer = httpx.request(method, self.url + path, json=body, timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def pids(self, word: str) -> list[int]:
        """Return the processes of the service whose arguments hold `word`, their minders left out."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        found = []
        for process in family:
            try:
                arguments = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if word in arguments and not any("minder" in part for part in arguments):
                found.append(process.pid)
        return found


@contextmanager
def fake_engine(log: Path, *, tokens: int, token_ms: float, port: int = 0) -> Iterator[tuple[Process, str]]:
    """Run a fake engine as a process; yield it with its address."""
    command = [sys.executable, "-m", "tests.fake_engine", "--port", str(port)]
    command += ["--tokens", str(tokens), "--token-ms", str(token_ms)]
    command += ["--max-cpu-loras", str(FAKE_CPU_LORAS)]
    with started(command, log=log, core=None) as process:

        def address() -> str | None:
            lines = log.read_text(encoding="utf-8").splitlines()
            return next((line for line in lines if line.startswith("http://")), None)

        wait_for(lambda: address() is not None, process, what="the fake engine", timeout_s=30)
        yield process, str(address())


@contextmanager
def real_engine(log: Path) -> Iterator[tuple[Process, str]]:
    """Run vLLM on the default base model; yield it with its address.

    Raises:
        StartFailed: it does not come up.
    """
    from adapters.base import folder_of  # noqa: PLC0415 - the fake engine needs no base model
    from gateway.settings import BaseModelSettings, EngineSettings  # noqa: PLC0415 - likewise
    from gateway.supervise.engine import Base, device_of, plan  # noqa: PLC0415 - likewise

    base = BaseModelSettings()
    folder = folder_of(base.model)
    if folder is None:
        raise StartFailed(f"the base model {base.model} is not prepared: run `make base`")
    settings = EngineSettings()
    (spec,) = plan(
        settings,
        Base(model=str(folder), served_name=base.name, local=True),
        device=device_of(settings),
        ports=[free_port()],
        cores=[],
    )
    environment = {name: value for name, value in spec.environment.items() if value is not None}
    with started(spec.command, log=log, core=None, environment=environment) as process:
        wait_for(lambda: _healthy(spec.url), process, what="the engine", timeout_s=ENGINE_START_S)
        yield process, spec.url


@contextmanager
def served(
    folder: Path, arguments: Sequence[str], *, environment: Mapping[str, str], start_s: float = START_S
) -> Iterator[Service]:
    """Run `turnout serve` until the block ends; then stop it and look that nothing of it is left.

    Raises:
        StartFailed: it does not come up, or leaves something behind.
    """
    port = free_port()
    log = folder / "serve.log"
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--no-examples", *arguments]
    settings = {
        "TURNOUT_STATE_DIR": str(folder / "state"),
        "TURNOUT_SERVER__DRAIN_DELAY_S": "0",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), **settings},
            cwd=ROOT,
        )
        process = Process(popen, log)
        family: list[psutil.Process] = []
        try:
            ready = "Turnout is ready"
            wait_for(lambda: ready in log.read_text(), process, what="turnout serve", timeout_s=start_s)
            yield Service(f"http://127.0.0.1:{port}", process, folder / "state", settings)
        finally:
            if process.running:
                family = psutil.Process(popen.pid).children(recursive=True)
                popen.send_signal(signal.SIGINT)
                try:
                    popen.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.stop()
        _, alive = psutil.wait_procs(family, timeout=10)
        if alive:
            raise StartFailed(f"left behind: {alive}")


def await_route(service: Service, name: str, *, timeout_s: float = 120.0) -> dict[str, Any]:
    """Wait until a route's spec is in effect; return the route.

    Raises:
        StartFailed: it is not in time, or it failed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        route = service.admin("GET", f"/admin/routes/{name}")
        status = route["status"]
        if status["state"] == "active" and status["active_generation"] == route["generation"]:
            return dict(route)
        if status["state"] == "failed" or time.monotonic() > deadline:
            raise StartFailed(f"the route {name} is not served: {json.dumps(status)}")
        time.sleep(0.05)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
