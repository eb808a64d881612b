"""The difference between two arms, read at any time."""

import random
from collections.abc import Sequence
from itertools import product
from math import exp, log, log1p, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.experiments.compare import Comparison, compare
from gateway.experiments.outcomes import Outcome

EPOCHS = {1: {"s@1": 0.95, "s@2": 0.05}, 2: {"s@1": 0.5, "s@2": 0.5}}


def drawn(seed: int, count: int, *, epoch: int, stable: float, candidate: float) -> list[Outcome]:
    """Units that succeed with these probabilities, by arm."""
    rng = random.Random(seed)
    outcomes = []
    for _ in range(count):
        second = rng.random() < EPOCHS[epoch]["s@2"]
        success = rng.random() < (candidate if second else stable)
        outcomes.append(Outcome(epoch, "s@2" if second else "s@1", float(success)))
    return outcomes


def test_nothing_counted_says_nothing() -> None:
    """Without units there is no estimate, and the interval is everything."""
    found = compare([], EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)
    assert (found.estimate, found.low, found.high) == (None, -1.0, 1.0)


def test_a_ramp_does_not_mix_periods() -> None:
    """Arms that are equal within each epoch are equal, though pooled means differ by far (Simpson)."""
    outcomes = drawn(1, 4000, epoch=1, stable=0.9, candidate=0.9)
    outcomes += drawn(2, 4000, epoch=2, stable=0.3, candidate=0.3)
    found = compare(outcomes, EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)
    assert found.estimate is not None
    assert abs(found.estimate) < 0.03
    assert found.low < 0 < found.high


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.booleans(), st.floats(0, 1)), max_size=60))
def test_the_quick_question_agrees_with_the_bound(units: list[tuple[int, bool, float]]) -> None:
    """A limit is passed exactly when the bound is beyond it."""
    comparison = Comparison(stable="s@1", candidate="s@2")
    for epoch, second, value in units:
        comparison.add(Outcome(epoch, "s@2" if second else "s@1", value), EPOCHS[epoch])
    low, high = comparison.low(0.2), comparison.high(0.2)
    assert low <= high
    for limit in (-0.5, 0.0, 0.1):
        if abs(low - limit) > 1e-6:
            assert comparison.above(limit, 0.2) == (low > limit)
        if abs(high - limit) > 1e-6:
            assert comparison.below(limit, 0.2) == (high < limit)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_values_have_bounds(value: float) -> None:
    """A value outside [0, 1] would make every bound wrong, so it is refused."""
    with pytest.raises(ValueError, match="not between"):
        compare([Outcome(1, "s@1", value)], EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)


HAPPY = (1.0, 0.0, 0.9, 1.0, 0.0, 0.4, 1.0, 1.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(
    "candidates",
    [HAPPY, (1.0,) * 8, tuple(1 - value for value in HAPPY), (0.0,) * 4 + (1.0,) * 4],
    ids=["equal", "all_good", "reversed", "turning"],
)
def test_the_draw_alone_bounds_errors(share: float, candidates: tuple[float, ...]) -> None:
    """Over all draws of eight fixed units, the bounds ever miss the average difference as seldom as they say.

    Exactly: every assignment is tried. Nothing is assumed of the units, and the difference may change.
    """
    shares = {"s@1": 1 - share, "s@2": share}
    missed = {0.5: 0.0, 0.2: 0.0}
    for draw in product((False, True), repeat=len(HAPPY)):
        chance = prod(share if second else 1 - share for second in draw)
        for alpha in missed:
            comparison, difference = Comparison(stable="s@1", candidate="s@2"), 0.0
            for count, (second, old, new) in enumerate(zip(draw, HAPPY, candidates, strict=True), start=1):
                comparison.add(Outcome(1, "s@2" if second else "s@1", new if second else old), shares)
                difference += (new - old - difference) / count
                if comparison.above(difference, alpha):
                    missed[alpha] += chance
                    break
    assert all(missed[alpha] <= alpha for alpha in missed)


def test_epochs_with_one_arm_and_other_arms_tell_nothing() -> None:
    """Units of a third arm, or from when a route had one arm, change no figure."""
    epochs = {1: {"s@1": 1.0}, 2: {"s@1": 0.4, "s@2": 0.4, "s@3": 0.2}}
    told = [Outcome(2, "s@1", 1.0), Outcome(2, "s@2", 0.0), Outcome(2, "s@1", 0.0)]
    beside = [Outcome(1, "s@1", 1.0), *told, Outcome(2, "s@3", 1.0)]
    arms = {"stable": "s@1", "candidate": "s@2"}
    assert compare(beside, epochs, **arms, alpha=0.1) == compare(told, epochs, **arms, alpha=0.1)


def test_means_are_of_the_same_mix_of_epochs() -> None:
    """The two means differ by the estimate, and each epoch weighs the same in both."""
    outcomes = drawn(3, 2000, epoch=1, stable=0.8, candidate=0.7)
    outcomes += drawn(4, 2000, epoch=2, stable=0.4, candidate=0.3)
    found = compare(outcomes, EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)
    assert found.estimate is not None
    assert found.stable_mean is not None
    assert found.candidate_mean is not None
    assert found.candidate_mean - found.stable_mean == pytest.approx(found.estimate)
    assert found.estimate == pytest.approx(-0.1, abs=0.03)
    assert found.low < -0.1 < found.high
    assert found.stable_units + found.candidate_units == 4000


def test_chances_of_its_own_take_the_place_of_the_shares() -> None:
    """A unit that was certain to meet its arm tells nothing; another counts by its own chance."""
    comparison = Comparison(stable="s@1", candidate="s@2")
    comparison.add(Outcome(1, "s@2", 1.0, {"s@1": 0.0, "s@2": 1.0}), EPOCHS[1])
    assert comparison.difference(0.05).candidate_units == 0
    comparison.add(Outcome(1, "s@2", 1.0, {"s@1": 0.5, "s@2": 0.5}), EPOCHS[1])
    assert comparison.difference(0.05).information == 0.25


def test_a_planner_is_told_the_variance() -> None:
    """Of values in [0, 1] a quarter while nothing is known, then what was seen."""
    assert compare([], EPOCHS, stable="s@1", candidate="s@2", alpha=0.05).variance == 0.25
    outcomes = drawn(5, 4000, epoch=2, stable=0.1, candidate=0.1)
    found = compare(outcomes, EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)
    assert found.variance == pytest.approx(0.09, rel=0.1)


def by_definition(outcomes: Sequence[Outcome], *, sign: int, alpha: float) -> float:
    """The bound as docs/decisions/0012 writes it, found by halving."""
    level, units, excess, candidates = 0.5, 1, 0.0, 8
    steps, information = [], 0.0
    for outcome in outcomes:
        q = EPOCHS[outcome.epoch]["s@2"]
        second, difference = outcome.arm == "s@2", excess / candidates
        guess = min(max(level + (1 - q) * difference, 0.0), 1.0)
        steps.append(sign * ((1 - q) if second else -q) * (outcome.value - guess))
        information += q * (1 - q)
        if second:
            excess, candidates = excess + outcome.value - level, candidates + 1
        units = min(units + 1, 64)
        level += (outcome.value - second * difference - level) / units
    bets = [0.005 * 1.6**k for k in range(12)]
    whole = sum(b**0.5 for b in bets)
    logs = [log(b**0.5 / whole) + sum(log1p(b * step) for step in steps) for b in bets]
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        wealth = sum(exp(min(one - b * middle * information, 700)) for one, b in zip(logs, bets, strict=True))
        low, high = (middle, high) if wealth > 1 / alpha else (low, middle)
    return sign * low


def test_the_interval_is_the_documented_one() -> None:
    """Whoever recomputes the interval from the outcomes by the written formula gets the same numbers."""
    outcomes = drawn(6, 700, epoch=1, stable=0.6, candidate=0.4)
    outcomes += drawn(7, 500, epoch=2, stable=0.5, candidate=0.3)
    found = compare(outcomes, EPOCHS, stable="s@1", candidate="s@2", alpha=0.05)
    assert found.low == pytest.approx(by_definition(outcomes, sign=1, alpha=0.025), abs=1e-8)
    assert found.high == pytest.approx(by_definition(outcomes, sign=-1, alpha=0.025), abs=1e-8)
