"""A store with a route that has a loop, steps that do as a plan says, and loopers on clocks of the test's."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import update

from gateway.controller.clock import Clock
from gateway.controller.looper import Looper, LooperConfig, Machine
from gateway.controller.looping.commands import Programs
from gateway.controller.looping.processes import Place, Processes
from gateway.core.canary import CanaryState, CanaryStatus
from gateway.core.documents import Arm
from gateway.core.loop import LoopPolicy
from gateway.core.routes import Route, RouteSpec, RouteStatus
from gateway.loops.run import STEPS, Run
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.fleet import CONTROLLER
from gateway.store.schema import epochs
from tests.gateway.controller_house import House
from tests.gateway.loops import made
from tests.gateway.loops.made import CURATED

FAKE = Path(__file__).with_name("fake_step.py")
PROGRAMS = {state: (sys.executable, "-S", str(FAKE), state) for state in STEPS}
RESULTS = {
    "curating": CURATED,
    "training": {"version": "support@2"},
    "gating": {"verdict": "passed", "reason": "better on the new rows"},
}
PATIENCE_S = 60.0


class World:
    """The store, the steps' plan, and the time."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder = folder
        self.house = House(folder)
        for seed in (1, 2):
            self.house.add("support", seed=seed)
        self.wall = time.time() + 60.0  # what follows is later than the store's own stamps
        self.monotonic = 1000.0
        self.processes: list[Processes] = []
        self.epoch = self.lease("first")
        self.plan()
        self.put(LoopPolicy.model_validate({"cooldown_h": 24, **policy}))

    def close(self) -> None:
        """End every step, and wait for all of them."""
        for processes in self.processes:
            children = [*processes._leaving, *(child for _, child in processes._children.values())]
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
                child.wait(PATIENCE_S)
        self.house.database.close()
        self.house.requests_db.close()

    def lease(self, holder: str) -> int:
        """Have a controller take the lease, whoever holds it."""
        database = self.house.database
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
        epoch = self.house.store.fleet.acquire(CONTROLLER, holder, ttl_s=600)
        assert epoch is not None
        return epoch

    def plan(self, *, results: dict[str, Any] | None = None, seconds: float = 0.0, **todo: list[str]) -> None:
        """Say what the steps do, by state."""
        plan = {"results": {**RESULTS, **(results or {})}, "seconds": seconds, **todo}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def put(self, policy: LoopPolicy | None, *, arm: str = "support@1") -> None:
        """Give the route a policy, and have it active."""
        spec = RouteSpec(arms=(Arm(adapter=arm, share=1.0),), loop=policy)
        self.house.store.routes.put("support", spec, actor="test")
        self.settle()

    def settle(self, *, canary: CanaryState | None = None, reason: str | None = None) -> None:
        """Do what the controller does: the spec is active, and its canary in this state."""
        known = self.route
        arms, status = known.spec.arms, None
        if canary is not None:
            assert known.spec.canary is not None
            candidate = known.spec.canary.candidate
            status = CanaryStatus(
                candidate=candidate,
                stable=arms[0].adapter,
                state=canary,
                share=0.05,
                started_at=self.wall,
                step_at=self.wall,
                after_generation=1,
                step_after_generation=1,
                reason=reason,
            )
            if canary == "promoted":
                arms = (Arm(adapter=candidate, share=1.0),)
        made = RouteStatus(
            state="active", active_generation=known.generation, effective_arms=arms, canary=status
        )
        self.house.store.routes.set_status(
            "support", made, generation=known.generation, actor="controller", epoch=self.epoch
        )

    def canary_steps(self, share: float) -> None:
        """Have a version that no run made answer a share of the traffic, from now on."""
        known = self.route
        arms = (Arm(adapter="support@1", share=1 - share), Arm(adapter="support@2", share=share))
        made = RouteStatus(state="active", active_generation=known.generation, effective_arms=arms)
        self.house.store.routes.set_status(
            "support", made, generation=known.generation, actor="controller", epoch=self.epoch
        )
        newest = self.house.store.epochs.rows("support")[-1].from_generation
        with self.house.database.write() as connection:
            stamped = update(epochs).where(epochs.c.from_generation == newest).values(at=self.wall)
            connection.execute(stamped)

    def run_before(self, *, candidate: str, gate: dict[str, Any]) -> None:
        """Leave a run that promoted a version, long ago."""
        run = made.run(
            id="loop-before",
            route="support",
            champion="support@1",
            candidate=candidate,
            state="promoted",
            created_at=self.wall - 30 * 86_400.0,
            ended_at=self.wall - 30 * 86_400.0,
            results={"gate": gate},
        )
        self.house.store.loops.begin(run, epoch=self.epoch)

    @property
    def route(self) -> Route:
        """The route as it is now."""
        return self.house.route("support")

    @property
    def run(self) -> Run:
        """The newest run."""
        return self.house.store.loops.rows("support", limit=1)[0]

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.house.store.loops.rows("support"))

    def drift(self, *, cause: str = "drift", severity: str = "retrain") -> None:
        """Leave a look of the monitor, and ratings enough to learn from."""
        ratings = (
            FeedbackRow(
                f"req-{number}", "support", "support@1", None, "thumbs", True, None, "k", at=self.wall
            )
            for number in range(300)
        )
        if not self.house.store.feedback.last_id():
            self.house.store.feedback.add(*ratings)
        row = DriftRow(
            self.wall, "support", "drift", {}, None, None,
            kind="sequential", severity=severity, cause=cause,  # type: ignore[arg-type]  # the cases name real ones
        )  # fmt: skip
        self.house.store.drift.add(row)

    def looper(self, *, installed: bool = True, min_free: int = 0, left_s: float = 60.0) -> Looper:
        """Return a looper as a new controller would make it."""
        programs = Programs(
            self.folder,
            programs=PROGRAMS,
            needs={"training": ("torch",)},
            installed=lambda _: installed,
        )
        place = Place(self.folder / "loop", min_free_bytes=min_free)
        processes = Processes(place, programs)
        self.processes.append(processes)
        return Looper(
            self.house.store,
            Machine(processes),
            check=lambda _: None,
            left_s=lambda _: left_s,
            config=LooperConfig(every_s=0.0),
            clock=Clock(monotonic=lambda: self.monotonic, wall=lambda: self.wall),
        )

    def look(self, looper: Looper, *, epoch: int | None = None) -> None:
        """Look once."""
        routes = tuple(self.house.store.routes.rows())
        looper.look(routes, self.epoch if epoch is None else epoch)

    def pass_(self, *, hours: float = 0.0, seconds: float = 0.0) -> None:
        """Let time pass on both clocks."""
        self.wall += hours * 3600 + seconds
        self.monotonic += hours * 3600 + seconds

    def look_until(self, looper: Looper, holds: Callable[[], bool]) -> None:
        """Look again and again, until what a process brings about is there."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, (self.run.state, self.run.reason, self.steps())
            self.look(looper)
            time.sleep(0.01)

    def until_state(self, looper: Looper, *states: str) -> Run:
        """Look until the newest run is in one of these states."""
        self.look_until(looper, lambda: bool(self.runs) and self.run.state in states)
        return self.run

    def steps(self) -> list[str]:
        """The starts of steps so far, each as `state what-it-did`."""
        path = self.folder / "steps.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(line.split()[1:4:2]) if line != "TWICE" else line for line in lines]

    def events(self) -> list[str]:
        """The loop's events of the route, oldest first."""
        rows = self.house.store.events.rows("support", limit=1000, after_id=0)
        return [row.action for row in rows if row.action.startswith("loop.")]

    def process(self, name: str = "worker") -> int:
        """The number of the process that works for the newest run, or of its child."""
        return int((self.folder / "loop" / self.run.id / name).read_text())

    def has(self, name: str) -> bool:
        """Whether the newest run's folder has a file."""
        return (self.folder / "loop" / self.run.id / name).exists()


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line of the kernel's
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_gone(pid: int) -> None:
    """Wait until a process is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while alive(pid):
        assert time.monotonic() < deadline, pid
        time.sleep(0.01)


def kill(pid: int) -> None:
    """Kill a process at once, and wait until it is gone."""
    os.kill(pid, 9)
    wait_gone(pid)
