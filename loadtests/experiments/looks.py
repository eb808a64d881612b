"""`make bench-looks`: what a look at an experiment costs the controller, by the number of its requests.

For each size a process of its own makes both stores, with a canary on a route, subjects that come back,
ratings and JSON, and lets the controller's own code look at them: for the first time, again, and once more
with the last hundred of the requests. Seconds are the whole look's, those of a CPU beside them, since they
hold better on a busy machine; memory is by how much the process grew over it.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gateway.controller.catalogue import Catalogue
from gateway.controller.experimenter import Experimenter, ExperimenterConfig
from gateway.core.canary import Canary
from gateway.core.documents import Arm
from gateway.core.requests import RequestRow
from gateway.core.routes import Metric, RouteSpec, RouteStatus
from gateway.core.steps import Moment, begun
from gateway.routing.experiments import Lottery
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.feedback import FeedbackRow
from gateway.store.fleet import CONTROLLER
from gateway.store.requests import Requests
from loadtests.common.machine import peak_mb
from loadtests.common.report import Sheet, console_for_people, publish

BENCH = "bench-looks"
SIZES = (1_000, 10_000, 100_000)
MORE = 100
ROUTE, STABLE, CANDIDATE = "r", "s@1", "s@2"
RATED, STICKY, STRUCTURED = 0.1, 0.7, 0.3
REQUESTS_A_SUBJECT = 4
_BATCH = 1_000
_ANSWERED_S = 1.0


@dataclass
class House:
    """Both stores, with a canary that begins at `start`."""

    control: ControlStore
    requests: Requests
    epoch: int
    start: float
    dice: random.Random
    made: int = 0

    def fill(self, count: int, *, since: float, until: float) -> None:
        """Record so many requests of a time, evenly spread, and their ratings."""
        route = self.control.routes.get(ROUTE)
        assert route is not None  # noqa: S101 - `house` has made it
        arms, generation = route.status.effective_arms, self.control.generation()
        lottery = Lottery(ROUTE, route.status.salt, arms)
        for first in range(0, count, _BATCH):
            rows = [
                self._row(lottery, arms, generation, at=since + number * (until - since) / count)
                for number in range(first, min(first + _BATCH, count))
            ]
            self.requests.write(rows)
            rated = [row for row in rows if self.dice.random() < RATED]
            self.control.feedback.add(*(self._rating(row) for row in rated))

    def _row(self, lottery: Lottery, arms: tuple[Arm, ...], generation: int, *, at: float) -> RequestRow:
        self.made += 1
        name = f"req-{int(at):08x}{self.dice.randrange(16**24):024x}"
        subject = None
        if self.dice.random() < STICKY:
            subject = f"user{self.dice.randrange(1 + self.made // REQUESTS_A_SUBJECT)}"
        arm = arms[lottery.arm(subject or name)]
        return RequestRow(
            id=name,
            at=at,
            endpoint="chat/completions",
            route=ROUTE,
            arm=arm.adapter,
            arm_probability=arm.share,
            adapter=arm.adapter,
            unit=subject and lottery.unit(subject),
            generation=generation,
            streamed=True,
            status=502 if self.dice.random() < 0.01 else 200,
            completion_tokens=100,
            ttft_ms=200.0,
            latency_ms=900.0,
            finish_reason="stop",
            schema_valid=self.dice.random() < 0.98 if self.dice.random() < STRUCTURED else None,
        )

    def _rating(self, row: RequestRow) -> FeedbackRow:
        return FeedbackRow(
            request_id=row.id,
            route=ROUTE,
            adapter=row.adapter,
            arm=row.arm,
            metric="thumbs",
            value=self.dice.random() < 0.7,
            comment=None,
            key_id="bench",
            at=row.at + 5,
            unit=row.unit,
            exposed_at=row.at,
        )

    def look(self, looks: Experimenter) -> dict[str, float]:
        """Look once; return the seconds that it took, those of a CPU, and by how many MB memory grew."""
        route = self.control.routes.get(ROUTE)
        assert route is not None  # noqa: S101 - `house` has made it
        before = peak_mb()
        began, cpu = time.perf_counter(), time.process_time()
        asyncio.run(looks.look(route, self.epoch))
        return {
            "seconds": time.perf_counter() - began,
            "cpu_s": time.process_time() - cpu,
            "grew_mb": peak_mb() - before,
        }


def house(folder: Path) -> House:
    """Make the stores, and begin a canary at a share of 0.25 three weeks ago."""
    control_db = Database(f"sqlite:///{folder}/control.db", "control", durable=False)
    requests_db = Database(f"sqlite:///{folder}/requests.db", "requests", durable=False)
    control_db.migrate()
    requests_db.migrate()
    control, requests = ControlStore(control_db), Requests(requests_db)
    epoch = control.fleet.acquire(CONTROLLER, "bench", ttl_s=3600)
    assert epoch is not None  # noqa: S101 - the store is new
    guardrails = {"errors": 0.5, "over_ttft_slo": 0.5, "schema_validity": 0.5, "thumbs": 0.5}
    spec = RouteSpec(
        arms=(Arm(adapter=STABLE, share=1.0),),
        canary=Canary(candidate=CANDIDATE, steps=(0.25, 1.0), min_units=10**9, guardrails=guardrails),
        metrics={"thumbs": Metric(window_h=24, primary=True)},
    )
    route, _ = control.routes.put(ROUTE, spec, actor="bench")
    start = time.time() - 21 * 86_400
    whole = RouteStatus(state="active", active_generation=route.generation, effective_arms=spec.arms)
    status = begun(spec, whole, Moment(time.time(), control.generation()))
    control.routes.set_status(ROUTE, status, generation=route.generation, actor="bench")
    with control_db.write() as connection:
        connection.exec_driver_sql("UPDATE epochs SET at = ?", (start,))
    return House(control, requests, epoch, start, random.Random(7))


def measure(size: int) -> dict[str, Any]:
    """Return the figures of one size, from a process of its own: memory only ever grows in one."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(theirs, size))
    process.start()
    try:
        while not ours.poll(0.5):
            if not process.is_alive():
                raise RuntimeError(f"the process of {size} requests ended with {process.exitcode}")
        return dict(ours.recv())
    finally:
        process.terminate()
        process.join()


def _measure(pipe: Connection, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = house(Path(folder))
        there.fill(size - MORE, since=there.start, until=time.time() - _ANSWERED_S)
        looks = Experimenter(
            there.control,
            there.requests,
            catalogue=Catalogue(there.control.versions),
            check=lambda _: None,
            config=ExperimenterConfig(settle_s=0.0),
        )
        first, same = there.look(looks), there.look(looks)
        began = time.time()
        time.sleep(2 * _ANSWERED_S)
        there.fill(MORE, since=began, until=began + _ANSWERED_S)
        after = there.look(looks)
        finding = there.control.findings.get(ROUTE)
        figures = finding.figures if finding else {}
        pipe.send(
            {
                "first": first,
                "again": same,
                "after_more": after,
                "sampled": figures.get("sampled"),
                "units": sum(arm["units"] for arm in figures.get("arms", {}).values()),
            }
        )


def main() -> None:
    """Measure every size and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of requests")
    parser.add_argument("--no-history", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    console = console_for_people()
    figures: dict[str, Any] = {}
    for size in options.sizes:
        console.print(f"{size} requests …")
        figures[str(size)] = found = measure(size)
        console.print(f"  {json.dumps(found)}", highlight=False)
    rows = [
        [
            f"{int(size):,}",
            f"{found['units']:,}",
            *(
                f"{found[look]['seconds']:.2f} ({found[look]['cpu_s']:.2f})"
                for look in ("first", "again", "after_more")
            ),
            f"{found['first']['grew_mb']:.0f}",
            f"{found['after_more']['grew_mb']:.0f}",
        ]
        for size, found in figures.items()
    ]
    sheet = Sheet(
        "A look at an experiment",
        ["requests", "units", "first, s (CPU)", "again, s", f"{MORE} more, s", "first, MB", "later, MB"],
        rows,
        [f"{RATED:.0%} rated, {STICKY:.0%} with a subject, {STRUCTURED:.0%} JSON; SQLite on this disk"],
    )
    partial = tuple(options.sizes) != SIZES
    publish(BENCH, figures, sheet, console=console, history=not options.no_history, partial=partial)


if __name__ == "__main__":
    main()
