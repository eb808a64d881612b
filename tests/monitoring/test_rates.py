"""Intervals against published examples and by simulation."""

import numpy as np
import pytest

from monitoring.rates import difference_of_means, mean, newcombe, wilson


def test_wilson_of_a_published_example() -> None:
    """Newcombe (1998): 81 of 263 gives .2553 to .3662 at 95 %."""
    estimate = wilson(81, 263, confidence=0.95)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((48, 80), (56, 70), -0.3339, -0.0524), ((0, 20), (10, 10), -1.0, -0.6791)],
)
def test_newcombe_of_published_examples(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe (1998), table II, method 10; his difference is first - second."""
    difference = newcombe(wilson(*second, confidence=0.95), wilson(*first, confidence=0.95))
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=1e-4)


def test_no_successes_still_have_an_interval() -> None:
    """A rate of zero is not certainly zero."""
    estimate = wilson(0, 20, confidence=0.95)
    assert estimate.low == 0
    assert estimate.high > 0.1


def test_means_cover_the_truth() -> None:
    """The interval of a difference of means holds the truth in about 95 % of runs."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        first, second = generator.normal(3, 1, 60).tolist(), generator.normal(3.5, 2, 40).tolist()
        difference = difference_of_means(first, second, confidence=0.95)
        covered += difference.low <= 0.5 <= difference.high
    assert 0.91 <= covered / 400 <= 0.98


def test_mean_of_a_constant() -> None:
    """Values without spread have an interval without width."""
    estimate = mean([2.0, 2.0, 2.0], confidence=0.95)
    assert (estimate.value, estimate.low, estimate.high) == (2, 2, 2)
