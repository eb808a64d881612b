"""Old rows are removed beside the controller's turns: when it is due, in steps that stay short."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.controller.clock import Clock
from gateway.controller.pruner import Pruner, PrunerConfig, Retention, next_rows, prunables
from gateway.core.requests import RequestRow
from gateway.store.database import Database, StoreUnavailable
from gateway.store.pruning import Prunable, Step
from gateway.store.requests import Requests

START = 1_700_000_000
DAY_S = 86_400
CLOCK = Clock(monotonic=lambda: 1_000.0, wall=lambda: START + 10 * DAY_S)
CONFIG = PrunerConfig(retention=Retention(requests_s=3 * DAY_S), first_rows=4, least_pause_s=0.0, most_rows=4)


class Rows(Prunable):
    """So many old rows; it notes what each step was asked for."""

    def __init__(self, count: int, clock: list[float] | None = None, took_s: float = 0.0) -> None:
        self.what = "rows"
        self.left = count
        self.asked: list[tuple[int, Any]] = []
        self._clock, self._took_s = clock, took_s

    def remove(self, *, before: float, limit: int, after: Any = None) -> Step:  # noqa: ARG002 - as it is called
        self.asked.append((limit, after))
        removed = min(limit, self.left)
        self.left -= removed
        if self._clock is not None:
            self._clock[0] += self._took_s
        return Step(removed, self.left, last=removed < limit)


@pytest.mark.parametrize(
    ("rows", "took_s", "following"),
    [(100, 0.05, 100), (100, 0.01, 200), (100, 0.2, 50), (4000, 0.0, 5000), (20, 9.0, 20)],
)
def test_steps_stay_short(rows: int, took_s: float, following: int) -> None:
    """A step that took long makes the next one smaller, and one that took little larger, within bounds."""
    assert next_rows(rows, took_s, PrunerConfig()) == following


def test_everything_that_is_old_goes() -> None:
    """A round goes on until there is nothing left, each step from where the last one ended."""
    rows = Rows(10)
    asyncio.run(Pruner({"requests_s": rows}, config=CONFIG, clock=CLOCK).prune())
    assert rows.left == 0
    assert rows.asked == [(4, None), (4, 6), (4, 2)]


def test_it_rests_longer_than_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps it rests for several times as long as the step took."""
    now, rested = [0.0], []
    clock = Clock(monotonic=lambda: now[0], wall=CLOCK.wall)

    async def rest(pause_s: float) -> None:
        rested.append(pause_s)

    monkeypatch.setattr(asyncio, "sleep", rest)
    asyncio.run(Pruner({"requests_s": Rows(10, now, 0.05)}, config=CONFIG, clock=clock).prune())
    assert rested == [pytest.approx(0.2)] * 2


def test_what_is_kept_for_ever() -> None:
    """A retention of 0 removes nothing."""
    rows = {name: Rows(10) for name in ("requests_s", "feedback_s", "drift_s")}
    asyncio.run(Pruner(rows, config=CONFIG, clock=CLOCK).prune())
    assert {name: each.left for name, each in rows.items()} == {
        "requests_s": 0,
        "feedback_s": 10,
        "drift_s": 10,
    }


def test_it_is_started_when_it_is_due() -> None:
    """Once in its time, never beside itself; another retention makes it due; stopping it forgets nothing."""
    now = [0.0]
    clock = Clock(monotonic=lambda: now[0], wall=CLOCK.wall)
    rows = Rows(6)

    async def run() -> list[bool]:
        pruner = Pruner({"requests_s": rows}, config=CONFIG, clock=clock)
        begun = []
        for at in (0.0, 1.0, 700.0, 701.0, 702.0):
            now[0] = at
            if at == 702.0:
                pruner.keep_for(Retention(requests_s=1.0))
            pruner.start()
            running = pruner._running
            begun.append(running is not None)
            if running is not None and at:
                await running
                await asyncio.sleep(0)
        await pruner.stop()
        return begun

    assert asyncio.run(run()) == [True, True, True, False, True]
    assert rows.left == 0


def test_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks: the next time is soon enough."""
    rows = Rows(10)

    def down(**_: object) -> Step:
        raise StoreUnavailable("down")

    monkeypatch.setattr(rows, "remove", down)
    asyncio.run(Pruner({"requests_s": rows}, config=CONFIG, clock=CLOCK).prune())
    assert rows.left == 10


def test_real_rows(tmp_path: Path) -> None:
    """The controller's own list finds its tables, and events are not on it."""
    control = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    recorded = Database(f"sqlite:///{tmp_path}/requests.db", "requests", durable=False)
    control.migrate()
    recorded.migrate()
    requests = Requests(recorded)
    for day in range(10):
        at = START + day * DAY_S
        requests.write([RequestRow(f"req-{at:08x}{day:024x}", at, "completions", route="r")])
    requests.usage.sum_up(settled_until=START + 10 * DAY_S, most_hours=1000)
    rows = prunables(control, recorded)
    assert {each.what for each in rows.values()} == {
        "recorded requests", "pairs of answers", "ratings", "verdicts on drift",
    }  # fmt: skip
    retention = Retention(requests_s=3 * DAY_S, pairs_s=1.0, feedback_s=1.0, drift_s=1.0)
    config = PrunerConfig(retention=retention, first_rows=2, least_pause_s=0.0)
    asyncio.run(Pruner(rows, config=config, clock=CLOCK).prune())
    assert [row.at for row in requests.window("r")] == [START + day * DAY_S for day in (7, 8, 9)]
    for database in (control, recorded):
        database.close()
