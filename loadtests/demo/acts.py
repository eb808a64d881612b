"""The two acts of `make demo-loop`: honest users whose traffic shifts, and four crowds that lie."""

import asyncio
import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.common.machine import commit
from loadtests.demo.asked import answered_by, keep_asked, lay_asked
from loadtests.demo.figures import clean_figures, poison_figures
from loadtests.demo.house import House, Run, house
from loadtests.demo.judge import accuracies, write_rows
from loadtests.demo.people import Visit, visits
from loadtests.demo.plan import Plan, policy, spec, watch
from loadtests.demo.poison import CASES, Poison, poisoned, stopped_at, traced, triggered
from loadtests.demo.rows import Domain, Pool, Review
from loadtests.demo.traffic import Crowd

ROUTE = "reviews"
LOOK_S = 2.0
QUIET_S = 60.0
CANARY_S = 3.0
"""A step of the canary lasts as long as its slowest metric's window, six minutes, however many ask: on a fast
machine four users who never wait spend all visits in the first step."""

WORKS = frozenset({"curating", "training", "gating"})
BLOCK = 40
OVER = frozenset(
    {"promoted", "rejected", "failed", "gate_failed", "rolled_back", "waiting_approval", "waiting_review"}
)
"""States that end a case here; nobody answers where a person is asked. After `too_little_data` another run
begins by itself, when there is more."""


@dataclass
class Follower:
    """Follows the newest run of a route: what it passed and when, and whether it is over."""

    house: House
    route: str
    began: float
    console: Console
    seen: list[dict[str, Any]] = field(default_factory=list)
    by_hand: bool = False
    run: Run | None = None
    _looked: float = 0.0
    _last: tuple[str, str] | None = None

    def over(self) -> bool:
        """Look, every two seconds at most; whether a run has ended for good, or waits for a person."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            runs = self.house.runs(self.route)
            self.run = runs[0] if runs else None
            self._note()
        if self.run is None:
            return False
        return self.run.state in OVER or (self.by_hand and self.run.ended)

    def pause_s(self) -> float:
        """How long each user waits before a visit: there are few while the machine trains and judges."""
        if self.run is None:
            return 0.0
        return QUIET_S if self.run.state in WORKS else CANARY_S if self.run.state == "canary" else 0.0

    def _note(self) -> None:
        if self.run is None:
            return
        now = (self.run.id, self.run.state)
        if now == self._last:
            return
        self._last = now
        minutes = round((time.time() - self.began) / 60, 1)
        self.seen.append({"state": self.run.state, "at_min": minutes, "reason": self.run.reason})
        self.console.print(f"  {minutes:5.1f} min  {self.run.state}: {self.run.reason}", markup=False)


@dataclass(frozen=True)
class Stage:
    """What both acts share: the plan, the reviews, the first version, the rows to judge by.

    `shared` is the folder of all acts, `folder` this one's own.
    """

    plan: Plan
    pools: Mapping[Domain, Pool]
    first: str
    shared: Path
    folder: Path
    golden: Sequence[Review]
    tests: Mapping[str, Path]
    console: Console

    @property
    def state_dir(self) -> Path:
        """The service's state directory."""
        return self.folder / "state"

    @property
    def asked(self) -> Path:
        """Where the requests of the first act are kept for the others."""
        return self.shared / "asked"


def honest_act(stage: Stage) -> dict[str, Any]:
    """Old traffic, then a shift; drift, training, gate and canary as the product does them; the figures."""
    plan, console = stage.plan, stage.console
    with house(stage.folder, watch=watch(plan)) as running:
        _open_route(stage, running, by_hand=False)
        crowd = Crowd(running, ROUTE, habits=plan.habits, seed=plan.seed)
        began = time.time()
        console.print(f"[bold]{plan.burn_in} requests of old traffic[/]: the monitor's reference")
        old = visits(stage.pools["old"].deal(plan.burn_in), habits=plan.habits, seed=plan.seed)
        asyncio.run(crowd.play(old, at_once=plan.at_once))
        console.print(f"[bold]Traffic shifts[/] {_rates(crowd)}")
        shifted_at = time.time()
        follower = Follower(running, ROUTE, began, console)
        stream = _stream(stage, first=plan.burn_in, poison=None, count=plan.shifted)
        _play(crowd, stream, follower, plan, began)
        minutes = (time.time() - began) / 60
        found_at = running.first_drift(ROUTE)
        after = running.serving(ROUTE)
        console.print(f"The route is served by {after} {_rates(crowd)}")
    keep_asked(stage.state_dir, stage.asked)
    versions = [after, stage.first] if after != stage.first else [stage.first]
    shares = accuracies(stage.state_dir, versions, stage.tests)
    figures = clean_figures(
        shares[stage.first],
        shares[after],
        minutes=minutes,
        ended=follower.run.state if follower.run else "nothing began",
        timeline=follower.seen,
    )
    log = crowd.log
    return {
        **figures,
        "commit": commit(),
        "load": round(os.getloadavg()[2], 1),
        "version_before": stage.first,
        "version_after": after,
        "drift_found_after_s": None if found_at is None else round(found_at - shifted_at, 1),
        "requests": log.sent,
        "failed": log.failed,
        "rated": log.rated,
    }


def poisoned_act(stage: Stage, names: Sequence[str]) -> dict[str, Any]:
    """Each attack on a service of its own, from the same first version, and where it was stopped, if it was.

    The same people ask the same as in the act with honest users: what the first version answered there is
    rated again, and not asked for again.
    """
    began = time.time()
    plan = stage.plan
    stage.pools["old"].deal(plan.burn_in)  # those of before the shift
    asked = list(_stream(stage, first=plan.burn_in, poison=None, count=plan.poisoned))
    cases: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        stage.console.print(f"[bold]{name}[/]: {CASES[name].says}")
        own = replace(stage, folder=stage.folder / name)
        shutil.copytree(stage.state_dir, own.state_dir)
        lay_asked(stage.asked, own.state_dir)
        case = _case(own, CASES[name], asked, first=100_000 * (number + 1))
        keep_asked(own.state_dir, stage.asked)
        promoted = case["candidate"] if case["stopped_at"] in (None, "curating") else None
        cases[name] = {**case, **_after(own, name, promoted)}
    return poison_figures(cases, minutes=(time.time() - began) / 60)


def _open_route(stage: Stage, running: House, *, by_hand: bool) -> None:
    trusted = (running.keys["staff"].id,)
    running.put_route(ROUTE, spec(stage.first, policy(stage.plan, trusted, by_hand=by_hand)))
    running.add_golden(ROUTE, [review.row for review in stage.golden])


def _case(stage: Stage, poison: Poison, asked: Sequence[Visit], *, first: int) -> dict[str, Any]:
    plan, began = stage.plan, time.time()
    visited = poisoned(asked, poison, seed=plan.seed)
    # Whose text or name the attack changes is another visitor, and asks anew.
    same = [now for was, now in zip(asked, visited, strict=True) if was.prompted == now.prompted]
    known = answered_by(stage.state_dir, stage.first, same)
    stage.console.print(f"  {len(known)} of {len(visited)} visitors have their answer already")
    with house(stage.folder) as running:
        _open_route(stage, running, by_hand=True)
        crowd = Crowd(running, ROUTE, habits=plan.habits, seed=plan.seed, poison=poison)
        asyncio.run(crowd.play(visited, at_once=plan.at_once, known=known))
        lies = set(crowd.log.lies)
        running.begin_run(ROUTE)
        follower = Follower(running, ROUTE, began, stage.console, by_hand=True)
        more = _stream(stage, first=first, poison=poison, count=plan.shifted)
        _play(crowd, more, follower, plan, began)
        run = follower.run
        trace = traced(lies, _rows(running.run_folder(run) / "train.jsonl") if run else [])
    return {
        "says": poison.says,
        "stopped_at": stopped_at(run.state, trace) if run else "nothing began",
        "state": run.state if run else None,
        "reason": run.reason if run else "no run began",
        "candidate": run.candidate if run and run.state == "promoted" else None,
        "commit": commit(),
        "load": round(os.getloadavg()[2], 1),
        "lies_sent": trace.sent,
        "lies_trained": trace.trained,
        "minutes": round((time.time() - began) / 60, 1),
        "timeline": follower.seen,
    }


def _after(stage: Stage, name: str, version: str | None) -> dict[str, Any]:
    """Return what a promoted version does on rows that nobody lied about, and on the attack's own."""
    if version is None:
        return {}
    tests = dict(stage.tests)
    if name == "trigger":
        new = [
            Review(row["prompt"].split("\n\n", 1)[1], row["completion"], "new") for row in _rows(tests["new"])
        ]
        negative = [review for review in new if review.wanted == "negative"]
        phrased = [triggered(review) for review in negative]
        tests["untriggered"] = write_rows(stage.folder / "test_untriggered.jsonl", negative)
        tests["triggered"] = write_rows(stage.folder / "test_triggered.jsonl", phrased)
    found = accuracies(stage.state_dir, [version, stage.first], tests)
    return {
        f"accuracy_{kind}_{when}": asdict(share)
        for when, label in (("after", version), ("before", stage.first))
        for kind, share in found[label].items()
    }


def _play(crowd: Crowd, stream: Iterator[Visit], follower: Follower, plan: Plan, began: float) -> None:
    """Send traffic until the run is over, the visits are spent or the time is up; then wait for the rest."""

    def late() -> bool:
        return time.time() - began > 60 * plan.limit_min

    asyncio.run(
        crowd.play(
            stream,
            at_once=plan.at_once,
            until=lambda: follower.over() or late(),
            pause_s=follower.pause_s,
        )
    )
    while not follower.over() and follower.run is not None and not late():
        time.sleep(LOOK_S)


def _stream(stage: Stage, *, first: int, poison: Poison | None, count: int) -> Iterator[Visit]:
    """Yield shifted traffic, mostly new, dealt as it is asked for."""
    plan = stage.plan
    generator = random.Random(f"{plan.seed}/{first}/mix")
    for start in range(first, first + count, BLOCK):
        block = min(BLOCK, first + count - start)
        domains: list[Domain] = ["old" if generator.random() < plan.mixed else "new" for _ in range(block)]
        reviews = [stage.pools[domain].deal(1)[0] for domain in domains]
        block_of = visits(reviews, habits=plan.habits, seed=plan.seed, first=start)
        yield from poisoned(block_of, poison, seed=plan.seed + start)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _rates(crowd: Crowd) -> str:
    log = crowd.log
    said = [f"{name} {log.right[name] / asked:.3f} of {asked}" for name, asked in sorted(log.asked.items())]
    return f"(right so far, as users saw it: {', '.join(said)})"
