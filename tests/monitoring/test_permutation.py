"""Permutation tests of numbers, and Holm's correction."""

import numpy as np
import pytest

from monitoring.permutation import holm, kolmogorov_smirnov, labellings, p_value


@pytest.mark.parametrize(("extreme", "expected"), [(0, 0.01), (4, 0.05), (99, 1.0)])
def test_p_value_counts_the_observed_labelling(extreme: int, expected: float) -> None:
    """A p-value is (b + 1) / (m + 1), so it is never zero."""
    assert p_value(extreme, 99) == pytest.approx(expected)


def test_labellings_keep_the_sample_sizes() -> None:
    """Every labelling marks as many rows as the first sample has, and their number is the one asked for."""
    blocks = list(labellings(3, 5, permutations=40, seed=1))
    assert sum(len(block) for block in blocks) == 40
    assert all((block.sum(axis=1) == 3).all() for block in blocks)


def test_gap_of_a_small_example() -> None:
    """D is the largest gap between the two distribution functions, also with ties."""
    result = kolmogorov_smirnov(np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 3.0, 4.0]))
    assert result.statistic == pytest.approx(0.5)


def test_all_values_equal_is_no_evidence() -> None:
    """Constant samples give a gap of zero and a p-value of one."""
    result = kolmogorov_smirnov(np.full(30, 7.0), np.full(20, 7.0))
    assert (result.statistic, result.p_value) == (0.0, 1.0)


@pytest.mark.parametrize("discrete", [False, True])
def test_false_alarms_stay_at_the_level(discrete: bool) -> None:
    """Equal populations alarm in about alpha of the runs: within three standard errors of 10 %."""
    generator = np.random.default_rng(5)
    runs, alpha = 400, 0.1
    alarms = 0
    for _ in range(runs):
        pooled = generator.normal(100, 20, 90)
        if discrete:
            pooled = np.round(pooled, -1)
        result = kolmogorov_smirnov(
            pooled[:50], pooled[50:], permutations=99, seed=int(generator.integers(2**31))
        )
        alarms += result.p_value <= alpha
    # With ties the p-value is conservative, so only the upper bound binds there.
    error = 3 * (alpha * (1 - alpha) / runs) ** 0.5
    assert alarms / runs <= alpha + error
    assert discrete or alarms / runs >= alpha - error


def test_a_shift_is_found() -> None:
    """Half a standard deviation among 200 and 200 rows is found in nearly every run."""
    generator = np.random.default_rng(6)
    found = sum(
        kolmogorov_smirnov(
            generator.normal(0, 1, 200), generator.normal(0.5, 1, 200), permutations=199, seed=run
        ).p_value
        <= 0.05
        for run in range(40)
    )
    assert found >= 36


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")]])
def test_values_that_can_not_be_compared_are_refused(bad: list[float]) -> None:
    """An empty sample and a gap are errors, not verdicts."""
    with pytest.raises(ValueError, match="finite"):
        kolmogorov_smirnov(np.array(bad), np.array([1.0]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"a": 0.04}, {"a": 0.04}),
        ({"a": 0.01, "b": 0.04, "c": 0.03}, {"a": 0.03, "b": 0.06, "c": 0.06}),
        ({"a": 0.9, "b": 0.8}, {"a": 1.0, "b": 1.0}),
    ],
)
def test_holm(given: dict[str, float], expected: dict[str, float]) -> None:
    """The smallest p-value is multiplied by the number of tests, the next by one less, never falling."""
    assert holm(given) == pytest.approx(expected)
