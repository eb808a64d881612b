"""The permutation test on embeddings."""

import numpy as np
import pytest

from monitoring.mmd import mmd_test
from monitoring.permutation import FloatArray


def _direct(reference: FloatArray, current: FloatArray, bandwidth: float) -> float:
    """Return the unbiased MMD squared as the paper writes it, pair by pair."""

    def similarity(first: FloatArray, second: FloatArray) -> float:
        return float(np.exp(-((first - second) ** 2).sum() / (2 * bandwidth**2)))

    def within(rows: FloatArray) -> float:
        size = len(rows)
        pairs = [similarity(rows[i], rows[j]) for i in range(size) for j in range(size) if i != j]
        return sum(pairs) / (size * (size - 1))

    across = [similarity(first, second) for first in reference for second in current]
    return within(reference) + within(current) - 2 * sum(across) / len(across)


def test_statistic_is_the_unbiased_estimate() -> None:
    """The fast statistic equals the paper's formula, and the bandwidth is the median distance."""
    generator = np.random.default_rng(1)
    reference, current = generator.normal(0, 1, (12, 3)), generator.normal(0.7, 1, (9, 3))
    result = mmd_test(reference, current, permutations=19)
    pooled = np.concatenate([reference, current])
    distances = [float(np.linalg.norm(pooled[i] - pooled[j])) for i in range(len(pooled)) for j in range(i)]
    assert result.bandwidth == pytest.approx(float(np.median(np.square(distances))) ** 0.5, rel=1e-5)
    assert result.statistic == pytest.approx(_direct(reference, current, result.bandwidth), abs=1e-6)
    assert result.effect == pytest.approx(max(0.0, result.statistic) ** 0.5)


def test_witness_means_differ_by_the_statistic() -> None:
    """The witness column of a report says the same as the statistic."""
    generator = np.random.default_rng(2)
    result = mmd_test(generator.normal(0, 1, (40, 5)), generator.normal(1, 1, (30, 5)), permutations=19)
    difference = result.witness_reference.mean() - result.witness_current.mean()
    assert difference == pytest.approx(result.statistic, abs=1e-6)


def test_false_alarms_stay_at_the_level() -> None:
    """Equal populations alarm in alpha of the runs: within three standard errors of 10 %."""
    generator = np.random.default_rng(3)
    runs, alpha = 400, 0.1
    alarms = 0
    for _ in range(runs):
        rows = generator.standard_t(3, (70, 8))
        seed = int(generator.integers(2**31))
        alarms += mmd_test(rows[:40], rows[40:], permutations=99, seed=seed).p_value <= alpha
    assert abs(alarms / runs - alpha) <= 3 * (alpha * (1 - alpha) / runs) ** 0.5


def test_a_shift_is_found() -> None:
    """A fifth of the rows from elsewhere, among 150 and 150 rows, is found in nearly every run."""
    generator = np.random.default_rng(4)
    found = 0
    for run in range(30):
        current = generator.normal(0, 1, (150, 8))
        current[:30] += 1.5
        result = mmd_test(generator.normal(0, 1, (150, 8)), current, permutations=199, seed=run)
        found += result.p_value <= 0.05
    assert found >= 27


@pytest.mark.parametrize("change", ["moved", "turned", "scaled", "order"])
def test_what_the_statistic_does_not_depend_on(change: str) -> None:
    """Moving, turning and scaling all vectors, or the order of rows in a window, changes nothing."""
    generator = np.random.default_rng(7)
    reference, current = generator.normal(0, 1, (30, 4)), generator.normal(0.5, 1, (25, 4))
    turn, _ = np.linalg.qr(generator.normal(0, 1, (4, 4)))
    changed = {
        "moved": (reference + 3, current + 3),
        "turned": (reference @ turn, current @ turn),
        "scaled": (reference * 8, current * 8),
        "order": (reference[::-1], current[::-1]),
    }[change]
    plain = mmd_test(reference, current, permutations=19)
    assert mmd_test(*changed, permutations=19).statistic == pytest.approx(plain.statistic, abs=1e-5)


def test_same_rows_same_verdict() -> None:
    """The seed is fixed: a check of the same rows comes out the same."""
    generator = np.random.default_rng(8)
    rows = generator.normal(0, 1, (60, 4))
    assert mmd_test(rows[:30], rows[30:]).p_value == mmd_test(rows[:30], rows[30:]).p_value


def test_equal_rows_are_no_evidence() -> None:
    """One prompt sent over and over gives a statistic of zero and a p-value of one."""
    result = mmd_test(np.ones((20, 4)), np.ones((20, 4)), permutations=19)
    assert (result.statistic, result.p_value, result.bandwidth) == (pytest.approx(0, abs=1e-7), 1.0, 0.0)


def test_mostly_equal_rows_are_still_compared() -> None:
    """Where most prompts are one and the same, the others decide."""
    reference, current = np.zeros((60, 4)), np.zeros((60, 4))
    current[:12, 0] = 1.0
    result = mmd_test(reference, current, permutations=199)
    assert result.bandwidth == pytest.approx(1.0, rel=1e-3)
    assert result.p_value <= 0.01


@pytest.mark.parametrize(("first", "second"), [((1, 4), (9, 4)), ((9, 4), (9, 3))])
def test_samples_that_can_not_be_compared_are_refused(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    """A single row or another dimension is an error."""
    with pytest.raises(ValueError, match="two rows"):
        mmd_test(np.zeros(first), np.zeros(second))
