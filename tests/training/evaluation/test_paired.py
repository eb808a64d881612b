"""Tests of paired differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from training.evaluation.classes import class_figures
from training.evaluation.figures import mean
from training.evaluation.paired import Discordance, discordance, holm, mcnemar, p_value, sign_flip
from training.evaluation.resampling import Resampling


@given(st.integers(0, 80), st.integers(0, 80))
@settings(max_examples=80, deadline=None)
def test_the_exact_test_is_the_sign_test(first: int, second: int) -> None:
    """It is the two-sided binomial test on the rows that differ, and does not mind the order."""
    found = mcnemar(Discordance(200, first, second))
    assert found == pytest.approx(mcnemar(Discordance(200, second, first)))
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found == pytest.approx(float(expected))


def test_the_exact_test_takes_many_rows() -> None:
    """Ten thousand rows that differ are no overflow."""
    assert mcnemar(Discordance(20_000, 5_000, 5_000)) == 1.0
    assert 0 < mcnemar(Discordance(20_000, 5_300, 4_700)) < 1e-8


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([1, 1, 0, 0], [1, 0, 1, 0], (4, 1, 1)), ([1, 1], [0, 0], (2, 2, 0)), ([0], [0], (1, 0, 0))],
)
def test_discordance_counts_who_alone_is_right(
    first: list[float], second: list[float], expected: tuple[int, int, int]
) -> None:
    """Rows on which both are right, or both wrong, say nothing of the difference."""
    found = discordance(mean("accuracy", first), mean("accuracy", second))
    assert (found.rows, found.first_only, found.second_only) == expected
    assert 0 < found.smoothed < 1


def test_only_successes_have_a_discordance() -> None:
    """Word overlap is no success or failure."""
    with pytest.raises(ValueError, match="not a success"):
        discordance(mean("token_f1", [0.5]), mean("token_f1", [1.0]))


def test_permutations_agree_with_the_exact_test() -> None:
    """On successes and failures both say nearly the same."""
    generator = np.random.default_rng(1)
    first, second = (generator.random(120) < share for share in (0.8, 0.65))
    ours, theirs = mean("accuracy", first.astype(float)), mean("accuracy", second.astype(float))
    exact = mcnemar(discordance(ours, theirs))
    assert sign_flip(ours, theirs, Resampling(120, seed=1)) == pytest.approx(exact, abs=0.02)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_permutations_do_not_mind_the_order(pairs: list[tuple[float, float]]) -> None:
    """The p-value is above 0, at most 1, and the same for the systems swapped."""
    first, second = mean("x", [a for a, _ in pairs]), mean("x", [b for _, b in pairs])
    draws = Resampling(len(pairs), seed=1)
    found = sign_flip(first, second, draws, permutations=199)
    assert 1 / 200 <= found <= 1
    assert found == pytest.approx(sign_flip(second, first, draws, permutations=199), abs=0.011)


def test_equal_systems_are_never_told_apart() -> None:
    """Without a difference every permutation reaches it."""
    same = mean("x", [0.2, 0.9, 0.4])
    assert sign_flip(same, same, Resampling(3, seed=1), permutations=99) == 1.0


def test_permutations_serve_any_figure() -> None:
    """Macro F1 has no formula for its error; swapping needs none."""
    wanted = ["a", "b"] * 40
    good = class_figures(wanted, wanted, ["a", "b"])[2]
    bad = class_figures(["a"] * 80, wanted, ["a", "b"])[2]
    assert sign_flip(good, bad, Resampling(80, seed=1), permutations=499) == pytest.approx(1 / 500)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated() -> None:
    """Equal systems in groups of four: permutations of groups err as often as stated, of rows often."""
    generator = np.random.default_rng(2)
    wrong = {"groups": 0, "rows": 0}
    groups = [number // 4 for number in range(160)]
    for number in range(400):
        apart = np.repeat(generator.normal(size=40), 4)
        first, second = mean("x", apart), mean("x", np.zeros(160))
        for name, units in (("groups", groups), ("rows", 160)):
            found = sign_flip(first, second, Resampling(units, seed=number), permutations=199)
            wrong[name] += found <= 0.05
    assert wrong["groups"] / 400 <= 0.075
    assert wrong["rows"] / 400 > 0.2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_adjusted_values_keep_their_order_and_only_grow(raw: list[float]) -> None:
    """None falls below what it was or above 1, and the smallest takes the whole of Bonferroni's factor."""
    adjusted = holm(raw)
    assert all(p <= q <= 1 for p, q in zip(raw, adjusted, strict=True))
    order = np.argsort(raw, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1.0, len(raw) * min(raw)))


def test_the_adjustment_of_a_known_example() -> None:
    """Three tests: the factors are 3, 2 and 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_groups_decide_which_test_is_taken() -> None:
    """The exact test takes rows as independent; with groups the permutation test is asked."""
    first, second = mean("x", [1.0] * 12), mean("x", [0.0] * 12)
    assert p_value(first, second, Resampling(12, seed=1)) == pytest.approx(2 / 2**12)
    assert p_value(first, second, Resampling([1] * 6 + [2] * 6, seed=1)) == pytest.approx(0.5, abs=0.03)
