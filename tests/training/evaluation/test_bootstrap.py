"""The intervals."""

import numpy as np
import pytest

from training.evaluation.bootstrap import interval, paired_difference
from training.evaluation.metrics import Counts


def means(values: list[float]) -> list[Counts]:
    """Return the rows of a mean."""
    return [Counts(value) for value in values]


def test_the_same_seed_gives_the_same_interval() -> None:
    """An evaluation can be repeated to the last digit."""
    values = means([1, 0, 1, 1, 0, 1, 0, 1, 1, 1])
    assert interval(values, seed=3) == interval(values, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_intervals_cover_the_truth_about_as_often_as_they_say(share: float) -> None:
    """Over simulated evaluations of 200 rows, 95 % intervals hold the truth in 91 to 98 of 100."""
    generator = np.random.default_rng(11)
    held = 0
    for number in range(400):
        drawn = (generator.random(200) < share).astype(float).tolist()
        found = interval(means(drawn), seed=number, resamples=400)
        held += found.low <= share <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_intervals_of_a_ratio_cover_the_truth() -> None:
    """F1 summed over rows of very different sizes is covered too."""
    generator = np.random.default_rng(5)
    held = 0
    for number in range(300):
        sizes = generator.integers(1, 8, size=200)
        hits = generator.binomial(sizes, 0.6)
        rows = [Counts(float(hit), float(size)) for hit, size in zip(hits, sizes, strict=True)]
        found = interval(rows, seed=number, resamples=400)
        held += found.low <= 0.6 <= found.high
    assert 0.90 <= held / 300 <= 0.985


@pytest.mark.slow
def test_paired_differences_cover_the_truth_and_are_narrower_than_unpaired_ones() -> None:
    """Pairing uses that both systems fail on the same hard rows."""
    generator = np.random.default_rng(7)
    held = 0
    for number in range(300):
        hard = generator.random(200) < 0.4
        first = np.where(hard, generator.random(200) < 0.3, True).astype(float)
        second = np.where(hard, generator.random(200) < 0.1, True).astype(float)
        gap = paired_difference(means(first.tolist()), means(second.tolist()), seed=number, resamples=400)
        held += gap.low <= 0.4 * 0.2 <= gap.high
        alone = interval(means(first.tolist()), seed=number, resamples=400)
        assert gap.high - gap.low < 2 * (alone.high - alone.low)
    assert 0.91 <= held / 300 <= 0.985


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 0.0362), (1.0, 0.9638, 1.0)])
def test_rows_that_all_agree_get_the_exact_binomial_bound(value: float, low: float, high: float) -> None:
    """No error in 100 rows does not mean an error rate of nothing."""
    found = interval(means([value] * 100), seed=1)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-4)


def test_a_ratio_without_any_entity_is_zero() -> None:
    """Rows that hold nothing to find give a figure of 0, not a division by zero."""
    assert interval([Counts(0, 0), Counts(0, 0)], seed=1).value == 0


def test_rows_that_can_not_be_judged_are_refused() -> None:
    """No rows, or unequal numbers of them, are an error of the caller."""
    with pytest.raises(ValueError, match="no rows"):
        interval([], seed=1)
    with pytest.raises(ValueError, match="can't be paired"):
        paired_difference(means([1]), means([1, 0]), seed=1)
