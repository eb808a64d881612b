"""Six months of many routes' loops on clocks that the test moves: the pure rules, and what they promise."""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from gateway.core.loop import LoopPolicy
from gateway.core.routes import Route
from gateway.loops.ages import Ages
from gateway.loops.moves import next_move
from gateway.loops.results import lacking
from gateway.loops.rules import Begin, Finding, Past, begin
from gateway.loops.run import ENDS, STEPS, Run
from gateway.loops.sight import Move, Seen, Step
from tests.gateway.loops import made
from tests.gateway.loops.made import CURATED, HOUR

DAYS = 183
TICK_S = 3 * HOUR
EPOCH = 1_800_000_000.0
GATES = ("passed", "passed", "failed", "too_few_rows", "needs_approval")


@cache
def _canarying(state: str) -> Route:
    return made.canarying(state)


@dataclass
class Work:
    """A process of a step: when it ends, and how."""

    ends_at: float
    result: dict[str, Any] | None
    told: bool = False


@dataclass
class Watched:
    """One route, its open run, and what the world has in store for it."""

    name: str
    route: Route
    run: Run | None = None
    past: list[Run] = field(default_factory=list)
    work: Work | None = None
    finding: tuple[int, float] | None = None
    true_begun: list[tuple[float, str]] = field(default_factory=list)
    true_ended: list[float] = field(default_factory=list)


class World:
    """Routes, a fleet's places, and two clocks. `jumps`: whether the wall clock is set now and then."""

    def __init__(self, seed: int, *, routes: int, at_once: int, jumps: bool) -> None:
        self.random = random.Random(seed)
        self.at_once = at_once
        self.jumps = jumps
        self.now = 0.0  # the true time, and the monotonic clock
        self.off = 0.0
        self.most_working = 0
        self.starts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.numbers = 0
        self.ages = Ages(lambda: self.wall, lambda: self.now)
        self.routes = [self._route(f"route-{number}") for number in range(routes)]

    @property
    def wall(self) -> float:
        """What the wall clock says."""
        return EPOCH + self.now + self.off

    def _route(self, name: str) -> Watched:
        roll = self.random
        scheduled = roll.random() < 0.2
        policy = LoopPolicy.model_validate(
            {
                "triggers": ["drift", "feedback", *(["schedule"] if scheduled else [])],
                "schedule_h": roll.choice([72, 336]) if scheduled else None,
                "cooldown_h": roll.choice([6, 24, 96]),
                "runs_per_week": roll.choice([1, 2, 4]),
                "approve": roll.choice(["always", "untrusted", "never"]),
                "review": roll.random() < 0.3,
                "max_retries": roll.choice([0, 1, 3]),
                "shadow": {"share": 0.1, "hours": 6} if roll.random() < 0.3 else None,
                "deadline_h": {"training": 12, "approval": 48, "review": 48},
            }
        )
        return Watched(name, made.route(loop=policy).model_copy(update={"name": name}))

    def live(self) -> None:
        """Live through the months."""
        while self.now < DAYS * 24 * HOUR:
            self.now += TICK_S
            if self.jumps and self.random.random() < 0.01:
                self.off = self.random.choice([0.0, -40 * 24 * HOUR, 3 * HOUR, 90 * 24 * HOUR])
            self._drift()
            for watched in self.routes:
                self._advance(watched)
            for watched in self.routes:
                self._begin(watched)
            self.ages.forget()

    @property
    def working(self) -> int:
        """How many runs work now."""
        return sum(watched.run is not None and watched.run.working for watched in self.routes)

    def _drift(self) -> None:
        """Find drift now and then, on some routes for weeks on end."""
        for number, watched in enumerate(self.routes):
            storms = number % 5 == 0 and (self.now // (14 * 24 * HOUR)) % 2 == 0
            if self.random.random() < (0.3 if storms else 0.01):
                self.numbers += 1
                watched.finding = (self.numbers, self.wall)

    def _begin(self, watched: Watched) -> None:
        policy = watched.route.spec.loop
        if watched.run is not None or policy is None:
            return
        found = []
        if watched.finding is not None:
            number, at = watched.finding
            found = [Finding(number, "drift", self.ages.of(("finding", number), at))]
        past = [self._past(run) for run in watched.past]
        decided = begin(policy, past, findings=found, watched_s=self.now)
        if not isinstance(decided, Begin):
            return
        watched.true_begun.append((self.now, decided.trigger))
        watched.run = made.run(
            id=f"{watched.name}-{len(watched.true_begun)}",
            route=watched.name,
            policy=policy,
            trigger=decided.trigger,
            cause=decided.cause,
            since=self.wall,
            created_at=self.wall,
            drift_id=decided.finding.id if decided.finding else None,
        )
        self._advance(watched)

    def _past(self, run: Run) -> Past:
        ended = None if run.ended_at is None else self.ages.of((run.id, "ended"), run.ended_at)
        lacks = lacking(run.results.get("gate", {}))
        return Past(
            self.ages.of((run.id, "begun"), run.created_at),
            ended,
            run.drift_id,
            run.state == "too_little_data" or lacks is not None,
            lacks or 1.0,
        )

    def _advance(self, watched: Watched) -> None:
        for _ in range(8):
            run = watched.run
            if run is None:
                return
            move = next_move(run, self._seen(watched, run))
            if move == Move(reason=move.reason):
                return
            self._make(watched, run, move)
            self.most_working = max(self.most_working, self.working)

    def _seen(self, watched: Watched, run: Run) -> Seen:
        self.ages.of((run.id, "begun"), run.created_at)
        return Seen(
            age_s=self.ages.of((run.id, run.state), run.since),
            route=self._route_of(watched, run),
            step=self._step(watched, run),
            place=run.working or self.working < self.at_once,
            unreviewed=0 if self.random.random() < 0.2 else 5,
        )

    def _route_of(self, watched: Watched, run: Run) -> Route:
        """Return the route as the experiments machinery left it."""
        if run.state != "canary" or run.generation is None:
            return watched.route
        state = self.random.choice(["running"] * 8 + ["promoted", "rolled_back", "held"])
        return _canarying(state)

    def _step(self, watched: Watched, run: Run) -> Step:
        work = watched.work
        if run.state not in STEPS or work is None:
            return Step()
        if self.now < work.ends_at:
            return Step("running")
        if work.result is None:
            return Step("died", reason="exit code 1", age_s=self.now - work.ends_at)
        return Step("done", result=work.result)

    def _make(self, watched: Watched, run: Run, move: Move) -> None:
        if move.act == "start":
            self.starts[f"{run.id} {run.state}"] += 1
            watched.work = self._work(run)
            watched.run = replace(run, attempt=run.attempt + 1)
        elif move.act == "kill" and watched.work is not None:
            watched.work = Work(self.now, None)
        elif move.act in ("shadow", "canary"):
            watched.run = replace(run, generation=6)
        if move.to is not None:
            self._go(watched, run, move)

    def _go(self, watched: Watched, run: Run, move: Move) -> None:
        assert move.to is not None
        fields_ = {"state": move.to, "since": self.wall, "attempt": 0, "generation": None}
        gone = replace(run, **{**fields_, **move.updates})  # type: ignore[arg-type]  # the fields of a run
        watched.work = None
        if gone.state == "waiting_approval" and self.random.random() < 0.5:
            gone = replace(gone, approvals={**gone.approvals, str(gone.asks): {"by": "ada"}})
        watched.run = gone
        if gone.state in ENDS:
            self.ends[gone.state] += 1
            watched.true_ended.append(self.now)
            self.ages.of((gone.id, "ended"), self.wall)
            watched.past = [*watched.past[-8:], replace(gone, ended_at=self.wall)]
            watched.run = None

    def _work(self, run: Run) -> Work:
        roll = self.random.random()
        if roll < 0.1:
            return Work(self.now + HOUR, None)
        if roll < 0.13:
            return Work(self.now + 1e9, None)  # it hangs
        hours = {"curating": 1, "training": 6, "gating": 2}[run.state]
        return Work(self.now + hours * HOUR, self._result(run))

    def _result(self, run: Run) -> dict[str, Any]:
        if run.state == "curating":
            outcome = self.random.choice(["ready"] * 6 + ["too_little_data", "waiting_review"])
            return {**CURATED, "outcome": outcome}
        if run.state == "training":
            return {"version": "support@2"}
        asked = {"set": "new", "rows": 100, "need": 130}
        verdict = self.random.choice(GATES)
        return {"verdict": verdict, "reason": "as the gate found", "driver_question": asked}
