"""Turnout's gateway worker for a benchmark, with everything on: a key, a route with three arms, recording.

No controller runs. Its part of the store is written here, as a controller does that found one healthy
engine with three attested versions.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import func, select

from gateway.auth import mint
from gateway.core.documents import Arm
from gateway.core.refs import VersionRef
from gateway.core.requests import Role
from gateway.core.routes import RouteSpec, RouteStatus
from gateway.peppers import load_pepper
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, RegistrationRow
from gateway.store.schema import request_rows

COMMAND = [sys.executable, "-m", "gateway", "worker"]
ARMS = {"answers": 0.5, "drafts": 0.3, "summaries": 0.2}
MAX_IN_FLIGHT = 2048
SETTLE_S = 30.0
_REPLICA = "replica-0"
_INCARNATION = "1000.0"
_ACTOR = "benchmark"
_LEASE_S = 3600.0
_LEFT = request_rows.c.status == 499


class CheckFailed(Exception):
    """The gateway did not do what it was measured for; the message has both numbers."""


@dataclass(frozen=True)
class House:
    """A state folder that a worker can serve from, and a key that it accepts."""

    folder: Path
    key: str

    @property
    def requests_url(self) -> str:
        """The database of recorded requests."""
        return f"sqlite:///{self.folder / 'requests.db'}"


def prepare(folder: Path, engine: str, *, model: str) -> House:
    """Write a store whose route `model` has three attested arms on one engine."""
    state = folder / "state"
    state.mkdir()
    database = Database(f"sqlite:///{state / 'control.db'}", "control")
    requests = Database(f"sqlite:///{state / 'requests.db'}", "requests", durable=False)
    try:
        # A worker that does it itself keeps Alembic in memory; `turnout serve` does it before one starts.
        requests.migrate()
        database.migrate()
        store = ControlStore(database)
        _fill(store, engine, model)
        text, row = mint(
            label=_ACTOR, tenant="default", roles=[Role.INFERENCE, Role.ADMIN], pepper=load_pepper(state)
        )
        store.keys.add(row, actor=_ACTOR)
    finally:
        requests.close()
        database.close()
    return House(state, text)


def environment(house: House, *, port: int) -> dict[str, str]:
    """Return the settings of the worker. The limit per replica is raised: one engine takes all streams."""
    return {
        "TURNOUT_STATE_DIR": str(house.folder),
        "TURNOUT_SERVER__PORT": str(port),
        "TURNOUT_SERVER__DRAIN_DELAY_S": "0",
        "TURNOUT_LIMITS__MAX_IN_FLIGHT_PER_REPLICA": str(MAX_IN_FLIGHT),
        "TURNOUT_BASE__MODEL": "benchmark-base",
    }


def check(house: House, address: str, engine: str) -> None:
    """Hold the gateway to its word: every request that reached the engine or the metrics has its row.

    A request whose client left at the end of a load may have been taken back before the engine saw it.

    Raises:
        CheckFailed: the numbers differ, or rows were dropped.
    """
    reached = int(httpx.get(f"{engine}/stats", timeout=10, trust_env=False).json()["received"])
    deadline = time.monotonic() + SETTLE_S
    while True:
        counted, dropped = _metrics(house, address)
        stored, sent_on, left = _rows(house)
        if (stored, dropped) == (counted, 0) and sent_on - left <= reached <= sent_on:
            return
        if time.monotonic() > deadline:
            raise CheckFailed(
                f"{counted} requests were served and {stored} rows written ({dropped} dropped); "
                f"{reached} requests reached the engine and {sent_on} rows say so"
            )
        time.sleep(0.2)


def _fill(store: ControlStore, engine: str, model: str) -> None:
    epoch = store.fleet.acquire(CONTROLLER, _ACTOR, ttl_s=_LEASE_S)
    if epoch is None:
        raise RuntimeError("a new store has no other controller")
    store.fleet.set_replicas({_REPLICA: (engine, None)})
    store.fleet.observe(_REPLICA, epoch=epoch, healthy=True, incarnation=_INCARNATION)
    for number, name in enumerate(ARMS):
        digest = f"sha256:{number:064x}"
        store.versions.add(name, digest, {"digest": digest}, actor=_ACTOR)
        row = RegistrationRow(
            _REPLICA, VersionRef(name, 1), _INCARNATION, digest, "attested", None, None, time.time()
        )
        store.fleet.set_registration(row, epoch=epoch)
    arms = tuple(Arm(adapter=f"{name}@1", share=share) for name, share in ARMS.items())
    route, _ = store.routes.put(model, RouteSpec(arms=arms), actor=_ACTOR)
    status = RouteStatus(state="active", active_generation=route.generation, effective_arms=arms)
    store.routes.set_status(model, status, generation=route.generation, actor=_ACTOR)


def _metrics(house: House, address: str) -> tuple[int, int]:
    """Return how many requests /metrics counts, and how many rows were dropped."""
    headers = {"authorization": f"Bearer {house.key}"}
    text = httpx.get(f"{address}/metrics", headers=headers, timeout=10, trust_env=False).text
    counted = dropped = 0.0
    for line in text.splitlines():
        if line.startswith("turnout_requests_total{"):
            counted += float(line.rsplit(" ", 1)[1])
        elif line.startswith("turnout_records_dropped_total"):
            dropped += float(line.rsplit(" ", 1)[1])
    return int(counted), int(dropped)


def _rows(house: House) -> tuple[int, int, int]:
    """Return how many rows are stored, how many of them were sent on, and of those whose client left."""
    database = Database(house.requests_url, "requests", durable=False)
    try:
        with database.read() as connection:
            sent_on = request_rows.c.attempts > 0
            counts = (func.count(), func.count().filter(sent_on), func.count().filter(sent_on, _LEFT))
            stored, sent, left = connection.execute(select(*counts).select_from(request_rows)).one()
    finally:
        database.close()
    return int(stored), int(sent), int(left)
