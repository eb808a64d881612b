"""The gate's rule: numbers in, verdict out, and how often it errs."""

from typing import Any

import numpy as np
import pytest

from loadtests.gate.worlds import Rows, World, naive, verdicts
from tests.training.gate.test_gaps import compared
from training.evaluation.figures import Figure, ratio
from training.evaluation.resampling import Resampling
from training.gate.decide import BEST, CHAMPION, NEW, OLD, Decision, Measured, Rule, decide
from training.gate.gaps import Gap, gap_of

BETTER, EQUAL, WORSE = compared(130, 30, 340), compared(35, 35, 930), compared(20, 120, 860)
FEW, FEW_WORSE = compared(3, 3, 60), compared(0, 12, 40)
FREE = Rule(min_trusted=0)


def decided(
    new: Gap | None = BETTER,
    old: Gap | None = EQUAL,
    *,
    best: Gap | None = None,
    parts: dict[str, Gap] | None = None,
    trusted: Gap | None = None,
    rule: Rule = FREE,
) -> Decision:
    """Return the verdict on these gaps."""
    sets: dict[str, dict[str, Gap]] = {}
    for name, gap in ((NEW, new), (OLD, old)):
        if gap is not None:
            sets[name] = {CHAMPION: gap}
    if best is not None:
        sets[OLD][BEST] = best
    return decide(Measured(sets, {OLD: parts or {}} if old else {}, trusted), rule)


@pytest.mark.parametrize(
    ("case", "verdict", "driver"),
    [
        ({}, "passed", OLD),
        ({"new": EQUAL}, "failed", NEW),
        ({"new": WORSE}, "failed", NEW),
        ({"old": WORSE}, "failed", OLD),
        ({"best": WORSE}, "failed", OLD),
        ({"new": FEW}, "too_few_rows", NEW),
        ({"old": FEW}, "too_few_rows", OLD),
        ({"best": FEW}, "too_few_rows", OLD),
        ({"old": FEW_WORSE}, "failed", OLD),
        ({"new": FEW, "old": WORSE}, "failed", OLD),
        ({"new": None}, "too_few_rows", None),
        ({"old": None}, "too_few_rows", None),
        ({"parts": {"product = x": FEW}}, "passed", OLD),
        ({"parts": {"product = x": FEW_WORSE}}, "failed", "old: product = x"),
        ({"parts": {"product = x": WORSE}}, "failed", "old: product = x"),
        ({"parts": {"product = x": EQUAL}}, "passed", OLD),
    ],
)
def test_verdicts(case: dict[str, Any], verdict: str, driver: str | None) -> None:
    """Superior on the new and not inferior on the old, with rows enough; the driver is named."""
    found = decided(**case)
    assert found.verdict == verdict
    assert (found.driver.name if found.driver else None) == driver
    assert (found.need_rows is not None) == (verdict == "too_few_rows")
    assert found.reason.endswith(".")


def test_too_few_rows_say_how_many_would_do() -> None:
    """The number is the one that the rows' own discordance gives, and more than there are."""
    found = decided(new=FEW)
    assert found.need_rows is not None
    assert found.need_rows > FEW.rows
    assert str(found.need_rows) in found.reason
    assert decided(new=None).need_rows
    assert decided(old=None).need_rows


def test_no_rows_are_no_question() -> None:
    """Without any rows there is nothing to say."""
    with pytest.raises(ValueError, match="no rows"):
        decided(None, None)


@pytest.mark.parametrize(
    ("trusted", "verdict"),
    [
        (None, "needs_approval"),
        (compared(20, 2, 40), "needs_approval"),
        (compared(30, 25, 65), "needs_approval"),
        (compared(40, 8, 70), "passed"),
        (compared(2, 40, 70), "failed"),
        (BETTER, "passed"),
    ],
)
def test_promotion_without_a_person_takes_trusted_rows(trusted: Gap | None, verdict: str) -> None:
    """Enough of them, and better on them alone; where they say harm, no person is asked."""
    found = decided(trusted=trusted, rule=Rule(min_trusted=100))
    assert found.verdict == verdict


@pytest.mark.parametrize(("per_subject", "verdict"), [(1, "passed"), (6, "needs_approval")])
def test_a_few_subjects_are_trusted_by_a_person_alone(per_subject: int, verdict: str) -> None:
    """Twenty who brought 118 trusted rows may be unlike the rest; the reason says how many would do."""
    trusted = compared(40, 8, 70, per_unit=per_subject)
    assert trusted.better
    found = decided(trusted=trusted, rule=Rule(min_trusted=100))
    assert found.verdict == verdict
    assert ("number of subjects behind the 118 new rows" in found.reason) == (verdict == "needs_approval")
    assert found.reason.endswith("is 20, and promotion without a person needs 30.") == (per_subject == 6)


def test_rows_chosen_because_the_champion_failed_take_a_person() -> None:
    """Corrections alone would make every candidate better."""
    sets = {NEW: {CHAMPION: BETTER}, OLD: {CHAMPION: EQUAL}}
    assert decide(Measured(sets, champion_right=0.05), FREE).verdict == "needs_approval"
    assert decide(Measured(sets, champion_right=0.3), FREE).verdict == "passed"


def test_many_small_slices_do_not_stop_an_equal_candidate() -> None:
    """One of thirty slices that is worse with p 0.02 is what chance gives; alone it would stop."""
    unlucky, plain = compared(3, 11, 40), compared(5, 5, 45)
    assert decided(parts={"a": unlucky}).verdict == "failed"
    assert decided(parts={"a": unlucky, **{f"b{n}": plain for n in range(29)}}).verdict == "passed"


def test_an_equal_candidate_seldom_passes() -> None:
    """At the stated 5 %, on rows enough to judge; without a gain nothing new is routed."""
    found = verdicts(World(Rows(400, 0.0, 0.25), Rows(800)), runs=200, seed=11)
    assert found.get("passed", 0.0) <= 0.05 + 2.5 * 0.0154


@pytest.mark.parametrize("rows", [30, 40, 60])
def test_a_candidate_that_breaks_few_of_few_rows_seldom_passes(rows: int) -> None:
    """By word F1, on old rows of which it breaks one in twenty and repeats the champion on the rest."""
    world = World(Rows(400, 0.2, 0.3), Rows(rows, -0.05, 0.05, overlap=True))
    assert verdicts(world, runs=200, seed=1).get("passed", 0.0) <= 0.05 + 2.5 * 0.0154


@pytest.mark.parametrize("binary", [True, False], ids=["labels", "overlaps"])
def test_a_candidate_that_breaks_few_subjects_seldom_passes(*, binary: bool) -> None:
    """One in twenty subjects loses all its rows, and thirty subjects often have none of these."""
    generator = np.random.default_rng(13)
    passed = 0
    for _ in range(60):
        broken = np.repeat(generator.random(30) < 0.05, 10)
        lot = generator.random(300)
        apart = np.where(broken | (lot < 0.02), -1, np.where(lot < 0.04, 1, 0))
        figures = [
            Figure("accuracy", np.stack([right, np.ones(300)], axis=1), ratio, binary)
            for right in (apart > 0, apart < 0)
        ]
        old = gap_of(figures[0], figures[1], Resampling([place // 10 for place in range(300)], seed=1))
        passed += decided(old=old).verdict == "passed"
    assert passed / 60 <= 0.05 + 2.5 * 0.0281


def test_slices_that_hardly_differ_do_not_stop_an_equal_candidate() -> None:
    """Fifty rows that are answered alike can't prove five points, so such slices are only shown."""
    world = World(Rows(400, 0.2, 0.3), Rows(1000, differing=0.005, slices=20))
    assert verdicts(world, runs=40, seed=14)["passed"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        World(Rows(400, 0.0, 0.25), Rows(800)),
        World(Rows(400, 0.2, 0.3), Rows(1000, -0.05)),
        World(Rows(400, 0.2, 0.3), Rows(1000), best=-0.05),
        World(Rows(400, 0.2, 0.3), Rows(4000, slices=4, harmed=-0.05)),
        World(Rows(400, 0.2, 0.3), Rows(200, -0.05, overlap=True)),
    ],
    ids=[
        "equal on the new",
        "five points worse on the old",
        "worse than the best ever",
        "a slice is harmed",
        "five points worse by overlap",
    ],
)
def test_no_wrong_candidate_passes_more_often_than_stated(world: World) -> None:
    """One thing wrong, everything else right: passed in 5 % of cases (plus what 300 runs may be off)."""
    assert verdicts(world, runs=300, seed=5).get("passed", 0.0) <= 0.05 + 2.5 * 0.0126


@pytest.mark.slow
def test_a_good_candidate_passes_as_often_as_stated() -> None:
    """Ten points better on the new, equal on the old, with the rows that are asked for: 80 % and more."""
    found = verdicts(World(Rows(270, 0.1, 0.25), Rows(620)), runs=300, seed=6)
    judged = 1 - found.get("too_few_rows", 0.0)
    assert judged > 0.9
    assert found["passed"] / judged >= 0.8


@pytest.mark.slow
def test_slices_cost_less_than_in_the_plain_gate() -> None:
    """1,000 rows in four slices, five points, 15 % discordance: the plain gate passes few equal ones."""
    world = World(Rows(400, 0.2, 0.3), Rows(1000, slices=4))
    assert naive(world, runs=200, seed=7) < 0.3
    assert verdicts(world, runs=200, seed=7)["passed"] > 0.9


@pytest.mark.slow
def test_harm_on_a_small_slice_is_seen() -> None:
    """Fifteen points lost on a quarter of the old rows stop a candidate that is better elsewhere."""
    world = World(Rows(400, 0.2, 0.3), Rows(1000, slices=4, harmed=-0.15))
    assert verdicts(world, runs=60, seed=8)["failed"] > 0.95


@pytest.mark.slow
def test_subjects_with_many_rows_do_not_feign_certainty() -> None:
    """Four rows a subject, answered alike: an equal candidate passes no more often."""
    world = World(Rows(800, 0.0, 0.25, per_subject=4), Rows(200), rule=Rule(0.2, 0.2, min_trusted=0))
    assert verdicts(world, runs=40, seed=9).get("passed", 0.0) <= 0.15
