"""The difference between two arms, read at any time."""

import random

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
