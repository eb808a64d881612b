"""The promises of the statistics, in small: `make bench-experiments` keeps them at full size."""

import pytest

from gateway.experiments.compare import Comparison
from gateway.experiments.guardrails import alpha_each, breached
from loadtests.experiments.assignment import assignment
from loadtests.experiments.run import FULL, _spread, sheet
from loadtests.experiments.studies import (
    ALPHA,
    ARMS,
    MISSING,
    Harm,
    covered,
    false_positive,
    missing,
    rng_of,
    rolled_back,
    suspected_after,
    units_to_stop,
)
from loadtests.experiments.worlds import EFFECTS, EQUAL, fixed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("world", EQUAL)
def test_equal_arms_seldom_differ(world: str) -> None:
    """Looked at after every unit, equal arms differ in at most 5 % of the experiments."""
    looked = [false_positive(world, number, 300) for number in range(40)]
    assert sum(one.product for one in looked) <= 40 * ALPHA


def test_the_worlds_would_show_a_fault() -> None:
    """The same looks at pooled means by a z-test find differences that are not there."""
    for world in ("ramps", "delayed", "shares_chase"):
        assert sum(false_positive(world, number, 600).naive for number in range(20)) >= 10


@pytest.mark.parametrize("world", EFFECTS)
def test_intervals_cover(world: str) -> None:
    """The interval holds the average difference after each unit, also where the difference changes."""
    assert sum(covered(world, number, 300) for number in range(40)) >= 40 * (1 - ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [("equal", 0), ("equal_zero_limits", 1), ("at_the_limits", 2)])
def test_equal_candidates_are_kept(kind: str, most: int) -> None:
    """Of 20 canaries of candidates within their limits, hardly any is rolled back."""
    assert sum(rolled_back(kind, number, 60) for number in range(20)) <= most


@pytest.mark.parametrize(
    ("harm", "most"), [(Harm(0.01, 99), 12), (Harm(0.01, 10), 300), (Harm(0.3, 10), 1000)]
)
def test_worse_candidates_are_stopped(harm: Harm, most: int) -> None:
    """At a share of 5 % a worse candidate is stopped after units that a canary has."""
    counts = [units_to_stop(harm, number, 40_000) for number in range(8)]
    assert all(count is not None and count <= most for count in counts)


def test_the_quick_question_is_the_guardrail() -> None:
    """What the simulated canaries ask after every unit is what the controller asks of the interval."""
    alpha = alpha_each(ALPHA, 3)
    comparison, stopped = Comparison(**ARMS), 0
    for unit in fixed(0.25, 0.05, 0.3)(rng_of("guardrail"), 600):
        comparison.add(unit.outcome, unit.shares)
        asked = breached(comparison.difference(alpha), 0.02, better="lower")
        assert asked == comparison.above(0.02, alpha / 2)
        stopped += asked
    assert 0 < stopped < 600


@pytest.mark.slow
@pytest.mark.parametrize("kind", MISSING)
def test_missing_ratings_are_no_win(kind: str) -> None:
    """Ratings that are missing on one arm are said to be, and no experiment calls them a win."""
    results = [missing(kind, number, 3000) for number in range(6)]
    assert not any(won for _, won, _ in results)
    differ = sum(differ for differ, _, _ in results)
    assert differ == 0 if kind == "nothing_missing" else differ >= 4


def test_lost_units_are_suspected() -> None:
    """Half of the candidate's units lost are noticed; none lost, nothing is."""
    assert suspected_after(0.0, 0, 4000) is None
    assert suspected_after(0.5, 0, 4000) is not None


def test_assignment_is_uniform() -> None:
    """For no kind of subject do the arms stray from their shares."""
    for found in assignment(12).values():
        assert found["p"] > 0.001
        assert found["below_5_percent"] < 0.3


def test_a_seed_is_an_experiment() -> None:
    """The same number gives the same experiment, whatever ran before it."""
    harm = Harm(0.3, 10)
    assert units_to_stop(harm, 3, 20_000) == units_to_stop(harm, 3, 20_000)
    assert len({units_to_stop(harm, number, 20_000) for number in range(4)}) > 1


def test_spreads_count_what_never_ended() -> None:
    """What did not come to an end pushes the quantiles up, and out of sight where it has them."""
    assert _spread([10, 20, 30, 40, 50]) == {"share": 1.0, "median": 30, "p80": 42, "p90": 46}
    assert _spread([10, 20, 30, 40, None]) == {"share": 0.8, "median": 30, "p80": None, "p90": None}


def test_the_table_has_a_row_for_each_figure() -> None:
    """Every figure of a result stands in the table."""
    spread = {"share": 1.0, "median": 10, "p80": 12, "p90": 14}
    power = {"sequential_units": spread, "planned_units": 9, "fixed_horizon_units": 5}
    figures = {
        "experiments": vars(FULL),
        "false_positive_rate": {"halves": 0.01},
        "z_test_false_positive_rate": {"halves": 0.3},
        "false_rollback_rate": {"equal": 0.0},
        "units_to_stop": {"5": {"errors": spread}},
        "power": {"5_points": power},
        "coverage": {"turning": 0.99},
        "unequal_ratings": {"nothing_missing": {"ever_a_win": 0.0, "rates_said_to_differ": 0.01}},
        "mismatch": {"lost_0": {"share": 0.01, "median": None}},
        "assignment": {"random": {"p": 0.5, "below_5_percent": 0.05}},
    }
    rows = [row[0] for row in sheet(figures).rows]
    assert rows == [
        "false positives, halves",
        "false roll-backs, equal",
        "coverage, turning",
        "stopped at 5 points, errors",
        "units for 5_points",
        "ratings, nothing_missing",
        "mismatch, lost_0",
        "assignment, random",
    ]
