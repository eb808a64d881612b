"""What chaos is done to: a service with two engines, four adapters and two controllers, each one killable."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.common.machine import ROOT
from loadtests.common.made_adapters import make
from loadtests.common.plain_client import Broken, PlainClient
from loadtests.common.processes import StartFailed, clean_environment, free_port
from loadtests.common.service import Service, served

BASE_NAME = "SmolLM2-135M-Instruct"
HOT = ("hot-a", "hot-b", "hot-c")
COLD = "cold"
SCRATCH = "scratch"
RESTART_AFTER_S = 1.0
LEASE_S = 3.0
_VLLM = "vllm.entrypoints.openai.api_server"


class Kept:
    """A process that is started again whenever it ends, as an orchestrator would."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self._process = self._start()
        self._ended_at: float | None = None

    @property
    def pid(self) -> int:
        """The number of the present process."""
        return self._process.pid

    def look(self) -> None:
        """Start it again when it has been gone for a while; call often."""
        if self._process.poll() is None:
            return
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if now - self._ended_at >= RESTART_AFTER_S:
            self._process, self._ended_at = self._start(), None

    def end(self) -> None:
        """End it for good."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **self._environment},
                cwd=ROOT,
            )


@dataclass
class House:
    """The service and its parts. `engines` are kept here on the fake engine, else by the supervisor."""

    service: Service
    folder: Path
    engines: list[Kept]
    second: Kept
    small_disk: Path | None
    acknowledged: list[tuple[str, Any]] = field(default_factory=list)
    caught_in_writes: int = 0
    quarantined: set[tuple[str, float]] = field(default_factory=set)

    @property
    def database(self) -> Path:
        """The file of the control store."""
        return self.service.state_dir / "control.db"

    def look_after(self) -> None:
        """Start again what an orchestrator would."""
        for kept in (*self.engines, self.second):
            kept.look()

    def engine_pids(self, index: int) -> list[int]:
        """Return the processes of one engine, its children included."""
        if self.engines:
            return [self.engines[index].pid]
        mains = self.service.pids(_VLLM)
        port = self.replicas()[index]["url"].rsplit(":", 1)[1]
        for pid in mains:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if port in process.cmdline():
                    return [pid, *(child.pid for child in process.children(recursive=True))]
        return []

    def controller_pid(self) -> int:
        """Return the process that holds the lease; its name in the store ends with its number."""
        holder = self.lease()[0]
        return int(holder.split("-")[-2])

    def lease(self) -> tuple[str, int]:
        """Return the holder of the controller's lease, and its epoch."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10) as connection:
            row = connection.execute("SELECT holder, epoch FROM leases WHERE name = 'controller'").fetchone()
        connection.close()
        return str(row[0]), int(row[1])

    def replicas(self) -> list[dict[str, Any]]:
        """Return the replicas as the admin API shows them."""
        return list(self.service.admin("GET", "/admin/replicas")["data"])

    def source(self, name: str) -> Path:
        """Return the folder from which an adapter is added; the same one each time."""
        folder = self.folder / "made" / name
        return folder if folder.exists() else make(folder, sum(name.encode()), base_name=BASE_NAME)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the service on a connection of its own; status 0 is no answer."""
        client = PlainClient(self.service.url)
        try:
            answer = await client.call(method, path, body, timeout_s=20)
            return answer.status, answer.json() if answer.body else None
        except (Broken, ValueError) as error:
            return 0, str(error)
        finally:
            client.close()

    async def add(self, name: str) -> tuple[int, Any]:
        """Add an adapter; what is acknowledged must be there in the end."""
        status, found = await self.call(
            "POST", "/admin/adapters", {"name": name, "source": str(self.source(name))}
        )
        if status in (200, 201):
            self.acknowledged.append(("adapter", found["adapter"]))
        return status, found

    async def turn_scratch(self, number: int) -> bool:
        """Change a route that nobody asks; whether that was acknowledged."""
        name = HOT[number % len(HOT)]
        spec = {"arms": [{"adapter": f"{name}@1", "share": 1.0}], "capture": {"share": number % 1000 / 1000}}
        status, route = await self.call("PUT", f"/admin/routes/{SCRATCH}", {"spec": spec})
        if status in (200, 202):
            self.acknowledged.append(("route", route["generation"]))
        return status in (200, 202)

    def lost(self) -> list[tuple[str, Any]]:
        """Return what was acknowledged and is not in the store."""
        with sqlite3.connect(self.database, timeout=10) as connection:
            ratings = {
                (row[0], row[1]) for row in connection.execute("SELECT request_id, value FROM feedback")
            }
            generations = {row[0] for row in connection.execute("SELECT generation FROM events")}
            versions = {
                f"{row[0]}@{row[1]}" for row in connection.execute("SELECT name, version FROM versions")
            }
        connection.close()
        there = {"feedback": ratings, "route": generations, "adapter": versions}
        return [(kind, key) for kind, key in self.acknowledged if key not in there[kind]]

    async def settled(self) -> str | None:
        """Return what is not as it should be, or None when the service does all that it did before.

        A replica that is left alone because it keeps failing, while the other one serves, is as it should be.
        """
        status, found = await self.call("GET", "/admin/status")
        if status != 200:
            return f"the admin API answers {status}"
        if not (found["controller"] or {}).get("alive"):
            return "no controller"
        fresh = [w for w in found["workers"] if w["alive"] and w["applied_generation"] >= found["generation"]]
        if len(fresh) < 2:
            return f"{len(fresh)} workers are up to date"
        needed = {f"{name}@1" for name in (*HOT, COLD)}
        for replica in found["replicas"]:
            if replica["quarantined_until"] and not replica["healthy"]:
                self.quarantined.add((replica["id"], replica["quarantined_until"]))
                continue
            if not replica["healthy"] or not needed <= set(replica["attested"]):
                missing = sorted(needed - set(replica["attested"]))
                return f"{replica['id']}: {replica['reason'] or f'{missing} not attested'}"
        for route in found["routes"]:
            if route["status"]["state"] != "active" or route["status"]["reason"]:
                return f"the route {route['name']} is {route['status']['state']}: {route['status']['reason']}"
        return await self._answers()

    async def _answers(self) -> str | None:
        for name in (*HOT, COLD):
            body = {"model": name, "prompt": f"Are you there? {time.time()}", "max_tokens": 1}
            status, found = await self.call("POST", "/v1/completions", body)
            if status != 200:
                return f"{name} answers {status}: {found}"
        return None


@contextmanager
def fake_house(folder: Path) -> Iterator[House]:
    """Run everything on two fake engines of two slots each, with a small disk for the blobs where allowed."""
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        engines = []
        for index, port in enumerate(ports):
            command = [sys.executable, "-m", "tests.fake_engine", "--port", str(port), "--tokens", "8"]
            command += ["--token-ms", "10", "--max-cpu-loras", "2"]
            engines.append(Kept(command, folder / f"engine-{index}.log", {}))
            stack.callback(engines[-1].end)
        for port in ports:
            _await(partial(_listens, port), what="a fake engine")
        small = stack.enter_context(_small_disk(folder / "state" / "adapters"))
        urls = [part for port in ports for part in ("--engine-url", f"http://127.0.0.1:{port}")]
        environment = {"TURNOUT_ENGINE__MAX_CPU_LORAS": "16"}
        yield stack.enter_context(_house(folder, urls, environment, engines, small, start_s=120))


@contextmanager
def real_house(folder: Path) -> Iterator[House]:
    """Run everything on two supervised vLLM engines of two slots each.

    The controller is told of more, as on the fake engines: else no replica would hold what one engine evicts.
    """
    environment = {
        "TURNOUT_ENGINE__CPU_KV_CACHE_GIB": "1",
        "TURNOUT_ENGINE__MAX_LORAS": "2",
        "TURNOUT_ENGINE__MAX_CPU_LORAS": "16",
        "TURNOUT_ENGINE__EXTRA_ARGS": '["--max-cpu-loras", "2"]',
        "TURNOUT_ENGINE__MAX_MODEL_LEN": "512",
    }
    with (
        _small_disk(folder / "state" / "adapters") as small,
        _house(folder, ["--replicas", "2"], environment, [], small, start_s=300) as house,
    ):
        yield house


@contextmanager
def _house(
    folder: Path,
    arguments: list[str],
    environment: dict[str, str],
    engines: list[Kept],
    small_disk: Path | None,
    *,
    start_s: float,
) -> Iterator[House]:
    environment = {
        "TURNOUT_CONTROLLER__INTERVAL_S": "0.25",
        "TURNOUT_CONTROLLER__LEASE_S": str(LEASE_S),
        "TURNOUT_LIMITS__FIRST_BYTE_TIMEOUT_S": "20",
        **environment,
    }
    with ExitStack() as stack:
        service = stack.enter_context(
            served(folder, [*arguments, "--workers", "2"], environment=environment, start_s=start_s)
        )
        second = Kept(
            [sys.executable, "-m", "gateway", "controller"],
            folder / "second-controller.log",
            dict(service.environment),
        )
        stack.callback(second.end)
        house = House(service, folder, engines, second, small_disk)
        asyncio.run(_furnish(house, within_s=start_s))
        yield house


async def _furnish(house: House, *, within_s: float) -> None:
    for name in (*HOT, COLD):
        status, found = await house.add(name)
        if status != 201:
            raise StartFailed(f"{name} was not added: {status} {found}")
    await house.turn_scratch(0)
    deadline = time.monotonic() + within_s
    while (fault := await house.settled()) is not None:
        house.look_after()
        if time.monotonic() > deadline:
            raise StartFailed(f"the service does not settle: {fault}")
        await asyncio.sleep(0.2)


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    """Mount a disk of two megabytes in memory at `place`; None where this user may not."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        yield None
        return
    if done.returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False)


def _await(holds: Callable[[], bool], *, what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise StartFailed(f"{what} was not ready after {timeout_s:g} s")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
