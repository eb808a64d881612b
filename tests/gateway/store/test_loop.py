"""Runs of the loop in the store."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from gateway.loops.run import OPEN, Run
from gateway.store import loop_figures
from gateway.store.control import ControlStore
from gateway.store.drift import DriftRow
from gateway.store.fleet import CONTROLLER
from gateway.store.lease import LeaseLost
from gateway.store.loop import RunUnderWay, new_id
from tests.gateway.loops import made

DAY = 86_400.0


def stored(control: ControlStore, route: str = "support", *, at: float = 0.0, **fields: object) -> Run:
    """Begin a run and bring it where the test wants it."""
    run = made.run(id=new_id(at), route=route, created_at=at, since=at)
    known = control.loops.begin(run)
    if fields:
        changed = control.loops.change(known, actor="loop", **fields)
        assert changed is not None
        return changed
    return known


def test_a_run_is_read_as_it_was_written(control: ControlStore) -> None:
    """With its policy, its results and who approved."""
    run = replace(
        made.run(policy=made.policy(train={"epochs": 2}, shadow={"share": 0.1, "hours": 2})),
        results={"curate": made.CURATED},
        approvals={"start": {"by": "ada"}},
    )
    control.loops.begin(run)
    assert control.loops.get(run.id) == run
    assert control.loops.open() == [run]


def test_a_route_has_one_open_run_whoever_begins_it(control: ControlStore) -> None:
    """Of many that begin at once one does; when it has ended, the next may."""
    begun: list[Run] = []
    refused: list[str] = []

    def begin() -> None:
        try:
            begun.append(stored(control))
        except RunUnderWay as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(begun), len(refused)) == (1, 5)
    control.loops.change(begun[0], actor="loop", state="failed", ended_at=1.0)
    stored(control)


def test_a_word_and_a_step_never_undo_each_other(control: ControlStore) -> None:
    """A run is changed by whoever knows how it is; the other reads again."""
    run = stored(control)
    assert control.loops.change(run, actor="ada", action="loop.reject", stop={"by": "ada"}) is not None
    assert control.loops.change(run, actor="loop", state="curating") is None
    known = control.loops.get(run.id)
    assert known is not None
    assert (known.state, known.stop, known.revision) == ("proposed", {"by": "ada"}, 2)


def test_only_the_effective_controller_writes(control: ControlStore) -> None:
    """Beginning, changing and noting carry the epoch; one that is over writes nothing."""
    epoch = control.fleet.acquire(CONTROLLER, "one", ttl_s=60)
    assert epoch is not None
    run = stored(control)
    with pytest.raises(LeaseLost):
        control.loops.change(run, actor="loop", epoch=epoch + 1, state="curating")
    with pytest.raises(LeaseLost):
        control.loops.begin(made.run(id="loop-2", route="letters"), epoch=epoch + 1)
    with pytest.raises(LeaseLost):
        control.loops.see(["support"], at=1.0, epoch=epoch + 1)
    assert control.loops.open() == [run]
    control.loops.see(["support", "letters"], at=1.0, epoch=epoch)
    control.loops.see(["support"], at=2.0, epoch=epoch)
    assert {name: row.seen_at for name, row in control.loops.routes().items()} == {
        "support": 1.0,
        "letters": 1.0,
    }


def test_the_past_is_the_last_run_and_the_week_before_it(control: ControlStore) -> None:
    """Counted from the run itself, by route, whatever the clock says now."""
    for day in (0, 10, 14, 16):
        stored(control, at=day * DAY, state="failed", ended_at=day * DAY + 5, drift_id=day)
    stored(control, "letters", at=DAY)
    past = control.loops.past()
    assert sorted(row.created_at / DAY for row in past["support"]) == [10, 14, 16]
    assert [row.ended_at for row in past["letters"]] == [None]


@pytest.mark.parametrize(
    ("state", "verdict", "asked", "found"),
    [
        ("too_little_data", None, None, (True, None)),
        ("gate_failed", "too_few_rows", {"set": "new", "rows": 80, "need": 120}, (True, 1.5)),
        ("gate_failed", "too_few_rows", {"set": "old", "rows": 80, "need": 120}, (False, None)),
        ("gate_failed", "too_few_rows", None, (False, None)),
        ("gate_failed", "failed", {"set": "new", "rows": 80, "need": 120}, (False, None)),
        ("promoted", "passed", None, (False, None)),
    ],
)
def test_a_run_without_rows_enough_was_in_vain(
    control: ControlStore, state: str, verdict: str | None, asked: Any, found: tuple[bool, float | None]
) -> None:
    """To train on, or new ones to judge by; the gate's word on how many it lacked is kept."""
    gate = {"verdict": verdict, "driver_question": asked}
    stored(control, at=DAY, state=state, ended_at=DAY + 5, verdict=verdict, results={"gate": gate})
    (row,) = control.loops.past()["support"]
    assert (row.in_vain, row.lacks) == found


def test_a_run_begins_after_the_one_before(control: ControlStore) -> None:
    """Also where the clock has fallen meanwhile, so that one with a wrong stamp hides no other."""
    first = stored(control, at=30 * DAY, state="failed", ended_at=30 * DAY + 5)
    late = [stored(control, at=day * DAY, state="failed", ended_at=day * DAY + 5) for day in (1, 2)]
    assert first.created_at < late[0].created_at < late[1].created_at < 30 * DAY + 1
    assert len(control.loops.past()["support"]) == 3
    assert stored(control, "letters", at=DAY).created_at == DAY


def test_findings_are_the_newest_looks_that_call_for_a_training(control: ControlStore) -> None:
    """Looks by hand and looks that call for nothing are none; each route has its newest of each cause."""
    for number, (route, kind, severity, cause) in enumerate(
        [
            ("support", "sequential", "retrain", "drift"),
            ("support", "sequential", "retrain", "feedback"),
            ("support", "sequential", "retrain", "drift"),
            ("support", "sequential", "ignore", "none"),
            ("letters", "look", None, None),
            ("names", "sequential", "watch", "drift"),
        ]
    ):
        row = DriftRow(
            float(number), route, "drift", {}, None, None, kind=kind, severity=severity, cause=cause  # type: ignore[arg-type]  # real ones
        )  # fmt: skip
        control.drift.add(row)
    found = control.loops.findings()
    assert list(found) == ["support"]
    assert [(row.id, row.at, row.cause) for row in found["support"]] == [
        (2, 1.0, "feedback"),
        (3, 2.0, "drift"),
    ]


def test_a_policy_of_another_release_asks_a_person(control: ControlStore) -> None:
    """What can be read of it counts, and nothing is promoted on what can't be read."""
    run = stored(control)
    with control.database.write() as connection:
        connection.exec_driver_sql(
            """UPDATE loop_runs SET policy = '{"approve": "never", "cooldown_h": 7, "wishes": 3}'"""
        )
    known = control.loops.get(run.id)
    assert known is not None
    assert (known.policy.approve, known.policy.cooldown_h) == ("always", 7)


def test_runs_are_listed_and_added_up(control: ControlStore) -> None:
    """Newest first in pages; counts, ends, failures in a row and times for the metrics."""
    ends = [
        ("promoted", "passed"),
        ("failed", None),
        ("gate_failed", "failed"),
        ("failed", None),
        ("failed", None),
    ]
    for day, (state, verdict) in enumerate(ends):
        at = day * DAY
        stored(control, at=at, state=state, verdict=verdict, ended_at=at + 60, drift_at=at - 40)
    opened = stored(control, at=9 * DAY, state="curating")
    control.loops.pause("letters", actor="ada", why="holidays")
    rows = control.loops.rows("support", limit=2)
    assert rows[0] == opened
    following = control.loops.rows("support", before=(rows[1].created_at, rows[1].id))
    assert [run.created_at / DAY for run in following] == [3, 2, 1, 0]
    figures = loop_figures.read(control.loops, control.database)
    assert figures.open == (opened,)
    assert figures.paused == {"letters"}
    assert set(figures.runs) == {
        ("support", "drift", "promoted", 1),
        ("support", "drift", "failed", 3),
        ("support", "drift", "gate_failed", 1),
        ("support", "drift", "curating", 1),
    }
    assert set(figures.verdicts) == {("support", "passed", 1), ("support", "failed", 1)}
    assert figures.failures == (("support", 2),)
    assert figures.took_s == (("support", 100.0),)
    assert ("support", "failed", 4 * DAY + 60) in figures.ended


REFUSED = ("gate_failed", "failed")


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ([], 0),
        ([REFUSED], 1),
        ([("promoted", "passed"), REFUSED, ("gate_failed", "too_few_rows"), ("gate_failed", "passed")], 3),
        ([REFUSED, ("promoted", "passed")], 0),
        ([REFUSED, ("rolled_back", "passed"), REFUSED], 1),
        ([REFUSED, ("failed", None), ("too_little_data", None), ("dry_run", None), REFUSED], 2),
        ([REFUSED, ("rejected", None), REFUSED], 2),
        ([REFUSED, ("rejected", "needs_approval"), REFUSED], 1),
        ([REFUSED, ("failed", "passed")], 0),
        ([REFUSED, ("gating", None)], 1),
        ([REFUSED, ("canary", "passed")], 0),
    ],
)
def test_gate_failures_in_a_row(
    control: ControlStore, ends: list[tuple[str, str | None]], count: int
) -> None:
    """Counted since a run got past the gate, whatever became of it; one that never came there is no word."""
    control.routes.put("support", made.route().spec, actor="ada")
    for day, (state, verdict) in enumerate(ends, start=1):
        ended_at = None if state in OPEN else day * DAY + 60
        stored(control, at=day * DAY, state=state, verdict=verdict, ended_at=ended_at)
    figures = loop_figures.read(control.loops, control.database)
    assert dict(figures.gate_failures).get("support", 0) == count


def test_what_asks_for_somebody_is_of_routes_that_have_a_loop(control: ControlStore) -> None:
    """Without a loop, or without a route, nobody need look at its gate or its golden set."""
    for name in ("support", "letters", "gone"):
        stored(control, name, at=DAY, state="gate_failed", verdict="failed", ended_at=DAY + 60)
        control.golden.rotate(name, actor="ada")
    control.routes.put("support", made.route().spec, actor="ada")
    control.routes.put("letters", made.route(loop=None).spec, actor="ada")
    figures = loop_figures.read(control.loops, control.database)
    assert figures.gate_failures == (("support", 1),)
    assert figures.golden_left == (("support", 20),)


def test_what_is_left_of_a_golden_set(control: ControlStore) -> None:
    """Uses until its rotation is due, by the route's present policy; a new set has them all."""

    def left() -> dict[str, int]:
        return dict(loop_figures.read(control.loops, control.database).golden_left)

    control.routes.put("support", made.route(loop=made.policy(golden_uses=2)).spec, actor="ada")
    assert left() == {}
    control.golden.rotate("support", actor="ada")
    seen = [left()["support"]]
    for run in ("loop-1", "loop-2", "loop-2", "loop-3"):
        control.golden.use("support", 1, run=run)
        seen.append(left()["support"])
    assert seen == [2, 1, 0, 0, -1]
    control.routes.put("support", made.route(loop=made.policy(golden_uses=5)).spec, actor="ada")
    assert left() == {"support": 2}
    control.golden.rotate("support", actor="ada")
    assert left() == {"support": 5}
