"""Six months of loops: what they never do, whatever happens."""

import pytest

from tests.gateway.loops.half_year import World
from tests.gateway.loops.made import HOUR

WEEK = 168 * HOUR


@pytest.mark.parametrize(("seed", "jumps"), [pytest.param(1, False, marks=pytest.mark.slow), (2, True)])
def test_six_months_of_many_loops(seed: int, jumps: bool) -> None:
    """None begins within the cooldown or over the budget, and no more work at once than may.

    That holds while the wall clock is set forth and back by weeks too. Every kind of end comes about.
    """
    world = World(seed, routes=12, at_once=3, jumps=jumps)
    world.live()
    assert sum(world.ends.values()) > 150
    assert world.ends.keys() >= {"promoted", "rolled_back", "gate_failed", "failed", "too_little_data"}
    assert world.ends["rejected"]
    assert world.most_working == 3
    for watched in world.routes:
        policy = watched.route.spec.loop
        assert policy is not None
        begun = [at for at, _ in watched.true_begun]
        assert begun, watched.name
        assert any(world.starts[f"{run.id} training"] for run in watched.past), watched.name
        for ended, following in zip(watched.true_ended, begun[1:], strict=False):
            assert following - ended >= policy.cooldown_h * HOUR
        for number, at in enumerate(begun):
            assert sum(at <= other < at + WEEK for other in begun[number:]) <= policy.runs_per_week
        for run in watched.past:
            for state in ("curating", "training", "gating"):
                tries = world.starts[f"{run.id} {state}"]
                # rows that were reviewed are chosen once more
                assert tries <= (1 + policy.max_retries) * (2 if state == "curating" else 1) + 8 * (
                    state == "curating"
                )
