"""Six months of several routes on a real store: the controller's own loop, on a clock of the test's."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.controller.clock import Clock
from gateway.controller.looper import Looper, LooperConfig, Machine
from gateway.core.canary import CanaryStatus
from gateway.core.documents import Arm
from gateway.core.loop import LoopPolicy
from gateway.core.routes import Route, RouteSpec, RouteStatus
from gateway.loops.run import STEPS, Run
from gateway.loops.sight import Step
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.fleet import CONTROLLER
from tests.gateway.controller_house import House
from tests.gateway.loops.made import CURATED, HOUR

DAYS = 183
TICK_S = 12 * HOUR
START = 2_000_000_000.0
AT_ONCE = 2
HOURS = {"curating": 12, "training": 24, "gating": 12}


class Imagined:
    """Steps that take their time and end as the dice say, without a process."""

    host = "here"

    def __init__(self, now: Callable[[], float], dice: random.Random, version: Callable[[str], str]) -> None:
        self._now = now
        self._dice = dice
        self._version = version
        self._ends: dict[str, tuple[int, float, bool]] = {}
        self.most = 0

    def see(self, run: Run) -> Step:
        """Return how a step is doing."""
        serial, at, good = self._ends.get(run.id, (0, 0.0, False))
        if run.state not in STEPS or serial != run.starts or run.attempt == 0:
            return Step()
        if self._now() < at:
            return Step("running")
        return Step("done", result=self._result(run)) if good else Step("died", reason="exit code 1")

    def start(self, run: Run, *, begun: Callable[[], Run | None], **_: Any) -> Run | None:
        """Begin a step."""
        known = begun()
        if known is not None:
            at = self._now() + HOURS[run.state] * HOUR
            self._ends[run.id] = (known.starts, at, self._dice.random() < 0.9)
            self.most = max(self.most, sum(end > self._now() for _, end, _ in self._ends.values()))
        return known

    def end(self, run: Run) -> None:
        """End a step."""
        self._ends.pop(run.id, None)

    def forget(self, run: Run) -> None:
        """Forget a run."""
        self._ends.pop(run.id, None)

    def _result(self, run: Run) -> dict[str, Any]:
        if run.state == "curating":
            return CURATED
        if run.state == "training":
            return {"version": self._version(run.champion)}
        return {"verdict": self._dice.choice(["passed", "passed", "failed"]), "reason": "as it found"}


class Months:
    """A store with routes whose traffic drifts now and then."""

    def __init__(self, folder: Path, *, routes: int) -> None:
        self.dice = random.Random(11)
        self.house = House(folder)
        self.now = 0.0
        self.names = [f"route-{number}" for number in range(routes)]
        epoch = self.house.store.fleet.acquire(CONTROLLER, "one", ttl_s=1e9)
        assert epoch is not None
        self.epoch = epoch
        self.seeds = 0
        for number, name in enumerate(self.names):
            policy = {
                "cooldown_h": 24 * (1 + number % 3),
                "runs_per_week": 1 + number % 2,
                "min_new_examples": 1,
            }
            self.house.store.feedback.add(
                *(
                    FeedbackRow(f"req-{each}", name, "a@1", None, "thumbs", True, None, "k")
                    for each in range(2)
                )
            )
            arm = Arm(adapter=self.version(f"{name}@0"), share=1.0)
            spec = RouteSpec(arms=(arm,), loop=LoopPolicy.model_validate(policy))
            self.house.store.routes.put(name, spec, actor="test")
        self.steps = Imagined(lambda: self.now, self.dice, self.version)
        self.looper = Looper(
            self.house.store,
            Machine(self.steps),  # type: ignore[arg-type]  # it does what the real ones do
            check=lambda _: None,
            left_s=lambda _: 60.0,
            config=LooperConfig(every_s=0.0, at_once=AT_ONCE),
            clock=Clock(monotonic=lambda: self.now, wall=lambda: START + self.now),
        )

    def version(self, champion: str) -> str:
        """Register one more version of a champion's adapter."""
        self.seeds += 1
        return str(self.house.add(champion.partition("@")[0], seed=self.seeds))

    def live(self) -> None:
        """Live through the months."""
        while self.now < DAYS * 24 * HOUR:
            self.now += TICK_S
            for name in self.names:
                self._settle(self.house.route(name))
                if self.dice.random() < 0.3:
                    self.house.store.drift.add(
                        DriftRow(
                            START + self.now, name, "drift", {}, None, None,
                            kind="sequential", severity="retrain", cause="drift",
                        )
                    )  # fmt: skip
            self.looper.look(tuple(self.house.store.routes.rows()), self.epoch)
        self.house.database.close()
        self.house.requests_db.close()

    def _settle(self, route: Route) -> None:
        """Do what the controller does about a route, the end of its canary included."""
        canary, status = route.spec.canary, None
        arms = route.spec.arms
        if canary is not None:
            state = self.dice.choice(["promoted", "promoted", "rolled_back"])
            status = CanaryStatus(
                candidate=canary.candidate,
                stable=arms[0].adapter,
                state=state,
                share=0.05,
                started_at=self.now,
                step_at=self.now,
                after_generation=1,
                step_after_generation=1,
            )
            arms = (Arm(adapter=canary.candidate, share=1.0),) if state == "promoted" else arms
        elif route.status.state == "active" and route.status.active_generation == route.generation:
            return
        made = RouteStatus(
            state="active", active_generation=route.generation, effective_arms=arms, canary=status
        )
        self.house.store.routes.set_status(
            route.name, made, generation=route.generation, actor="controller", epoch=self.epoch
        )


@pytest.mark.slow
def test_six_months_in_the_store(tmp_path: Path) -> None:
    """What is stored keeps cooldown, budget and places too, and versions follow one another."""
    months = Months(tmp_path, routes=3)
    months.live()
    assert months.steps.most == AT_ONCE
    assert months.looper.failed_looks == 0
    ends: set[str] = set()
    for name in months.names:
        runs = months.house.store.loops.rows(name, limit=1000)[::-1]
        policy = months.house.route(name).spec.loop
        assert policy is not None
        assert len(runs) > 8
        ends |= {run.state for run in runs}
        for before, following in pairwise(runs):
            assert before.ended_at is not None
            assert following.created_at - before.ended_at >= policy.cooldown_h * HOUR
            changed = before.state == "promoted"
            assert following.champion == (before.candidate if changed else before.champion)
        for number, run in enumerate(runs):
            week = [one for one in runs[number:] if one.created_at < run.created_at + 168 * HOUR]
            assert len(week) <= policy.runs_per_week
    assert ends >= {"promoted", "rolled_back", "gate_failed", "failed"}
