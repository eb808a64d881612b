"""What happens to a run beside the loop: people change the route, clocks are set, controllers are frozen."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.canary import Canary
from gateway.store.lease import LeaseLost
from gateway.store.loop import Loops
from tests.gateway.looping.world import World

pytestmark = pytest.mark.slow

DAY_S = 86_400.0


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A route whose loop may begin two runs a week, with steps that are tried once."""
    made = World(tmp_path, max_retries=0, cooldown_h=24, runs_per_week=2)
    yield made
    made.close()


def test_a_clock_that_falls_back_begins_nothing(world: World) -> None:
    """A run with a stamp far ahead hides none of those after it: the cooldown and the week's budget hold."""
    world.plan(results={"gating": {"verdict": "failed", "reason": "worse"}})
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.until_state(looper, "gate_failed")
    world.wall -= 30 * DAY_S
    looper = world.looper()  # after a reboot
    for _ in range(4):
        world.pass_(hours=25)
        world.drift()
        world.look_until(looper, lambda: not world.run.open)
        for _ in range(5):
            world.look(looper)
            world.pass_(seconds=60)
    assert world.runs == 2
    stamps = [run.created_at for run in world.house.store.loops.rows("support")]
    assert stamps == sorted(set(stamps), reverse=True)


def test_a_canary_that_a_person_takes_out_stays_out_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller was killed right after it had put the canary there; the next one notes that it did."""
    real, dead = Loops.change, {"is": False}

    def change(self: Loops, run: Any, **named: Any) -> Any:
        if named.get("generation") is not None and not dead["is"]:
            dead["is"] = True
            raise Killed
        return real(self, run, **named)

    monkeypatch.setattr(Loops, "change", change)
    first = world.looper()
    world.look(first)
    world.drift()
    with pytest.raises(Killed):
        world.until_state(first, "promoted")
    left = world.run
    assert left.generation is None
    world.epoch = world.lease("next")
    looper = world.looper()
    world.settle(canary="running")
    world.look(looper)
    assert world.run.generation == world.route.generation
    world.house.store.routes.put(
        "support", world.route.spec.model_copy(update={"canary": None}), actor="a person"
    )
    world.settle()
    world.look(looper)
    assert (world.run.state, world.route.spec.canary) == ("rolled_back", None)


def test_a_promotion_by_a_person_is_not_taken_back(world: World) -> None:
    """The gate compared with the version before: the run ends, and the person's keeps all of the traffic."""
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.until_state(looper, "gating")
    world.house.add("support", seed=3)
    theirs = Canary(candidate="support@3", steps=(0.1,))
    world.house.store.routes.put(
        "support", world.route.spec.model_copy(update={"canary": theirs}), actor="a person"
    )
    world.settle(canary="promoted")
    run = world.until_state(looper, "failed", "promoted")
    assert (run.state, run.reason) == (
        "failed",
        "the gate compared with support@1, and the route has support@3 by now",
    )
    assert world.route.spec.canary == theirs


def test_a_run_after_a_persons_promotion_goes_on_from_it(world: World) -> None:
    """Its canary runs against the version that was promoted, also where the arms name the one before."""
    world.house.add("support", seed=3)
    theirs = Canary(candidate="support@3", steps=(0.1,))
    world.house.store.routes.put(
        "support", world.route.spec.model_copy(update={"canary": theirs}), actor="a person"
    )
    world.settle(canary="promoted")
    looper = world.looper()
    world.look(looper)
    world.drift()
    run = world.until_state(looper, "canary")
    world.look(looper)
    spec = world.route.spec
    assert run.champion == "support@3"
    assert [(arm.adapter, arm.share) for arm in spec.arms] == [("support@3", 1.0)]
    assert spec.canary is not None
    assert spec.canary.candidate == "support@2"


def test_a_controller_that_was_frozen_takes_no_result_away(world: World) -> None:
    """Its successor's step has ended meanwhile; the late start is refused before it touches the folder."""
    world.look(world.looper())
    world.drift()
    first = world.looper()
    world.look_until(first, lambda: bool(world.runs))
    known, processes = world.run, world.processes[-1]
    world.epoch = world.lease("next")
    looper = world.looper()
    result = world.folder / "loop" / known.id / "curate.json"
    deadline = time.monotonic() + 30
    while not result.exists():
        if world.run.starts == 0:
            world.look(looper)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stale = world.run

    def begun() -> None:
        raise LeaseLost

    deadline = time.monotonic() + 30
    while True:  # the step's process may hold the folder for another moment
        try:
            assert processes.start(stale, not_after=time.monotonic() - 1, best=None, begun=begun) is None
        except LeaseLost:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert result.exists()
    world.until_state(looper, "canary")
