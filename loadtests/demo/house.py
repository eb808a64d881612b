"""What `make demo-loop` runs: the product's own processes, and the few calls that people make."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtests.common.machine import ROOT
from loadtests.common.processes import Process, StartFailed, clean_environment, started
from loadtests.common.service import Service, served
from loadtests.demo.plan import SERVICE

START_S = 400.0
ROUTE_S = 180.0
STEP_S = 1500.0
KEYS: Mapping[str, Sequence[str]] = {"crowd": ("inference", "feedback"), "staff": ("inference", "feedback")}


@dataclass(frozen=True)
class Key:
    """An API key: its public id and its text."""

    id: str
    text: str


@dataclass
class Run:
    """One run of the loop, as the store has it."""

    id: str
    route: str
    state: str
    reason: str
    candidate: str | None
    ended: bool
    created_at: float
    since: float


@dataclass
class House:
    """A running service with its watch, its keys, and the folder of everything."""

    service: Service
    folder: Path
    keys: Mapping[str, Key]
    watch: Process | None

    @property
    def state_dir(self) -> Path:
        """The service's state directory."""
        return self.service.state_dir

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API as the owner.

        Raises:
            httpx.HTTPError: it refuses, or does not answer.
        """
        answer = httpx.request(
            method,
            self.service.url + path,
            json=body,
            headers=bearer(self.keys["owner"]),
            timeout=60,
            trust_env=False,
        )
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:300]}",
                request=answer.request,
                response=answer,
            )
        return answer.json() if answer.content else None

    def put_route(self, name: str, spec: Mapping[str, Any]) -> None:
        """Set a route's spec and wait until it is in effect.

        Raises:
            StartFailed: it is not in time, or it failed.
        """
        self.admin("PUT", f"/admin/routes/{name}", {"spec": spec})
        deadline = time.monotonic() + ROUTE_S
        while True:
            route = self.admin("GET", f"/admin/routes/{name}")
            status = route["status"]
            if status["state"] == "active" and status["active_generation"] == route["generation"]:
                return
            if status["state"] == "failed" or time.monotonic() > deadline:
                raise StartFailed(f"the route {name} is not served: {json.dumps(status)}")
            time.sleep(0.2)

    def add_golden(self, route: str, rows: Sequence[Mapping[str, str]]) -> None:
        """Give a route its golden set, two hundred rows a call."""
        for start in range(0, len(rows), 200):
            body = [
                {
                    "messages": [{"role": "user", "content": row["prompt"]}],
                    "answer": row["completion"],
                    "slices": {"domain": row["domain"]},
                }
                for row in rows[start : start + 200]
            ]
            self.admin("POST", f"/admin/golden/{route}/rows", {"rows": body, "curated": []})

    def begin_run(self, route: str) -> None:
        """Start a run by hand."""
        self.admin("POST", f"/admin/loop/{route}/run")

    def runs(self, route: str) -> list[Run]:
        """Return the route's runs, the newest first, as the store has them."""
        with _read(self.state_dir / "control.db") as connection:
            rows = connection.execute(
                "SELECT id, route, state, reason, candidate, ended_at, created_at, since FROM loop_runs "
                "WHERE route = ? ORDER BY created_at DESC",
                (route,),
            ).fetchall()
        return [
            Run(row[0], row[1], row[2], row[3] or "", row[4], row[5] is not None, row[6], row[7])
            for row in rows
        ]

    def first_drift(self, route: str) -> float | None:
        """Return when the watch first found that the route needs a training."""
        with _read(self.state_dir / "control.db") as connection:
            row = connection.execute(
                "SELECT min(at) FROM drift WHERE route = ? AND kind = 'sequential' AND severity = 'retrain'",
                (route,),
            ).fetchone()
        return row[0] if row else None

    def run_folder(self, run: Run) -> Path:
        """Return where a run's files are."""
        return self.state_dir / "loop" / run.id

    def serving(self, route: str) -> str:
        """Return the version that most of a route's traffic meets."""
        arms = self.admin("GET", f"/admin/routes/{route}")["status"]["effective_arms"]
        return str(max(arms, key=lambda arm: arm["share"])["adapter"])


def bearer(key: Key) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"authorization": f"Bearer {key.text}"}


def publish_first(state_dir: Path, rows: Path, *, name: str, options: Sequence[str]) -> str:
    """Train the first version of an adapter and publish it; return it as NAME@N.

    Raises:
        StartFailed: the training failed.
    """
    command = [sys.executable, "-m", "training", name, str(rows), "--state-dir", str(state_dir), "--json"]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**clean_environment(), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=STEP_S,
        check=False,
    )
    if done.returncode:
        raise StartFailed(f"the first version was not trained: exit code {done.returncode}")
    return str(json.loads(done.stdout.strip().splitlines()[-1])["version"])


@contextmanager
def house(folder: Path, *, watch: Sequence[str] | None = None) -> Iterator[House]:
    """Run everything until the block ends: engine, controller, gateway, and the watch with its options.

    The first version must be published already. Keys are made for the owner, the crowd and the staff.

    Raises:
        StartFailed: something does not come up.
    """
    state_dir = folder / "state"
    with ExitStack() as stack:
        owner = _first_key(state_dir)
        service = stack.enter_context(served(folder, [], environment=SERVICE, start_s=START_S))
        found = House(service, folder, {"owner": owner}, None)
        others = {name: _key(found, name, roles) for name, roles in KEYS.items()}
        found.keys = {"owner": owner, **others}
        if watch is not None:
            command = [sys.executable, "-m", "monitoring", "watch", *watch]
            environment = {**service.environment, "TURNOUT_API_KEY": owner.text}
            found.watch = stack.enter_context(
                started(command, log=folder / "watch.log", core=None, environment=environment)
            )
        yield found


def _first_key(state_dir: Path) -> Key:
    """Make the first key in the store itself, before anything runs."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "create", "--role", "admin", "--json"],
        cwd=ROOT,
        env={**clean_environment(), "TURNOUT_STATE_DIR": str(state_dir)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise StartFailed(f"no key was made: {done.stderr[-400:]}")
    made = json.loads(done.stdout)
    return Key(made["id"], made["key"])


def _key(found: House, name: str, roles: Sequence[str]) -> Key:
    made = found.admin("POST", "/admin/keys", {"roles": sorted(roles), "label": name})
    return Key(made["id"], made["key"])


@contextmanager
def _read(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
