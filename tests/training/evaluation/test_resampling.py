"""Intervals of figures and of paired differences, over rows and over groups of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.figures import Figure, counted, mean, ratio
from training.evaluation.metrics import Counts
from training.evaluation.resampling import Method, Resampling, difference, interval, standard_error

RESAMPLES = 400
ones = st.lists(st.booleans(), min_size=2, max_size=60)


def successes(values: list[bool]) -> Figure:
    """Return the figure of rows that succeed or fail."""
    return mean("accuracy", [float(value) for value in values])


@given(ones, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_interval_of_a_share_is_a_share(values: list[bool], seed: int) -> None:
    """No end leaves the range of the figure, and the low one is not above the high one."""
    found = interval(successes(values), Resampling(len(values), seed=seed, resamples=200))
    assert 0 <= found.low <= found.high <= 1
    assert found.value == pytest.approx(sum(values) / len(values))


@given(ones, st.sampled_from(["bca", "percentile"]))
@settings(max_examples=40, deadline=None)
def test_equal_systems_do_not_differ(values: list[bool], method: Method) -> None:
    """The difference is 0, and the interval says how much it could be all the same."""
    draws = Resampling(len(values), seed=1, resamples=200)
    found = difference(successes(values), successes(values), draws, method=method)
    assert found.value == 0
    assert -found.low == found.high > 0


@pytest.mark.parametrize(("first", "expected"), [(True, (1.0, 0.383, 1.0)), (False, (-1.0, -1.0, -0.383))])
def test_rows_that_all_differ_alike_leave_room(first: bool, expected: tuple[float, float, float]) -> None:
    """Ten rows on which only one system is right do not prove that the other never is."""
    ours, theirs = successes([first] * 10), successes([not first] * 10)
    found = difference(ours, theirs, Resampling(10, seed=1))
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=60))
@settings(max_examples=60, deadline=None)
def test_swapping_the_systems_mirrors_the_interval(pairs: list[tuple[bool, bool]]) -> None:
    """What is gained one way is lost the other way, to the last digit but rounding."""
    draws = Resampling(len(pairs), seed=2, resamples=200)
    first, second = successes([a for a, _ in pairs]), successes([b for _, b in pairs])
    one, other = difference(first, second, draws), difference(second, first, draws)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-9)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_same_seed_gives_the_same_interval(method: Method) -> None:
    """An evaluation can be repeated to the last digit."""
    figure = mean("x", [1, 0, 1, 1, 0, 1, 0.5])
    found = [interval(figure, Resampling(7, seed=3), method=method) for _ in range(2)]
    assert found[0] == found[1]


def test_draws_are_shared_by_figures() -> None:
    """A difference is over the same drawn rows: of two systems that differ by a constant it has no width."""
    rows = np.random.default_rng(1).random(40)
    draws = Resampling(40, seed=1)
    found = difference(mean("x", rows + 0.25), mean("x", rows), draws)
    assert (found.low, found.value, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_higher_levels_take_more_draws_and_give_wider_intervals() -> None:
    """Bonferroni's levels need tails in which there are draws."""
    draws = Resampling(100, seed=1, resamples=500)
    assert draws.draws(0.95) == 500
    assert draws.draws(0.999) == 20_000
    figure = mean("x", np.random.default_rng(2).random(100))
    narrow, wide = interval(figure, draws), interval(figure, draws, level=0.999)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_rows_of_a_group_are_drawn_together() -> None:
    """Ten copies of every row say nothing more than one: the interval is that of the groups."""
    rows = np.random.default_rng(3).random(30)
    once = interval(mean("x", rows), Resampling(30, seed=5))
    copies = np.repeat(rows, 10)
    groups = [f"user {number // 10}" for number in range(300)]
    grouped = interval(mean("x", copies), Resampling(groups, seed=5))
    naive = interval(mean("x", copies), Resampling(300, seed=5))
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)


def test_a_part_of_the_rows_keeps_its_groups() -> None:
    """Slices are drawn by the same groups as the whole."""
    draws = Resampling(["a", "a", "b", "c", "c", "d"], seed=1)
    part = draws.at(np.array([0, 1, 5]))
    assert (part.rows, part.units) == (3, 2)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small memory gives the same interval as a large one, since draws come in the same order."""
    from training.evaluation import resampling

    figure = mean("x", np.random.default_rng(4).random(50))
    whole = interval(figure, Resampling(50, seed=1))
    monkeypatch.setattr(resampling, "_CHUNK", 1000)
    assert interval(figure, Resampling(50, seed=1)) == whole


def test_the_jackknife_gives_a_mean_its_textbook_error() -> None:
    """The standard error of a mean is the sample's deviation over the root of the rows."""
    rows = np.random.default_rng(5).random(80)
    found = standard_error(mean("x", rows), None, Resampling(80, seed=1))
    assert found == pytest.approx(rows.std(ddof=1) / np.sqrt(80))


def test_groups_are_in_the_error_of_a_difference() -> None:
    """Rows that repeat each other have the error of those that do not."""
    first, second = np.random.default_rng(6).random((2, 40))
    alone = standard_error(mean("x", first), mean("x", second), Resampling(40, seed=1))
    groups = [number // 5 for number in range(200)]
    repeated = standard_error(
        mean("x", np.repeat(first, 5)), mean("x", np.repeat(second, 5)), Resampling(groups, seed=1)
    )
    assert repeated == pytest.approx(alone)


def test_the_correction_is_that_of_the_reference_implementation() -> None:
    """BCa intervals are scipy's, up to the chance of different draws."""
    from scipy.stats import bootstrap

    rows = np.random.default_rng(7).exponential(size=60)
    found = interval(mean("x", rows), Resampling(60, seed=1, resamples=20_000))
    known = bootstrap((rows,), np.mean, method="BCa", n_resamples=20_000, random_state=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=0.02)
    plain = interval(mean("x", rows), Resampling(60, seed=1, resamples=20_000), method="percentile")
    assert found.high > plain.high + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_of_shares_cover_the_truth(share: float) -> None:
    """Over 500 evaluations of 150 rows, 95 % intervals hold the truth in 92 to 98 of 100."""
    generator = np.random.default_rng(11)
    held = 0
    for number in range(500):
        found = interval(
            mean("x", (generator.random(150) < share).astype(float)),
            Resampling(150, seed=number, resamples=RESAMPLES),
        )
        held += found.low <= share <= found.high
    assert 0.92 <= held / 500 <= 0.98


@pytest.mark.slow
def test_intervals_of_skewed_ratios_cover_the_truth() -> None:
    """Sums of very unequal rows are covered in at least 91 of 100 at 100 rows."""
    generator = np.random.default_rng(12)
    held = 0
    for number in range(400):
        sizes = generator.geometric(0.3, size=100)
        hits = generator.binomial(sizes, 0.7)
        rows = counted("f1", [Counts(float(a), float(b)) for a, b in zip(hits, sizes, strict=True)])
        found = interval(rows, Resampling(100, seed=number, resamples=RESAMPLES))
        held += found.low <= 0.7 <= found.high
    assert 0.91 <= held / 400 <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 300])
def test_paired_differences_cover_the_truth(rows: int) -> None:
    """Two systems that share hard rows: 92 to 98 of 100 at 300 rows, not below 91 at 60."""
    generator = np.random.default_rng(13)
    held = 0
    for number in range(400):
        hard = generator.random(rows) < 0.3
        first = np.where(hard, generator.random(rows) < 0.5, generator.random(rows) < 0.95)
        second = np.where(hard, generator.random(rows) < 0.3, generator.random(rows) < 0.93)
        gap = difference(
            successes(first.tolist()),
            successes(second.tolist()),
            Resampling(rows, seed=number, resamples=RESAMPLES),
        )
        held += gap.low <= 0.3 * 0.2 + 0.7 * 0.02 <= gap.high
    assert (0.91 if rows < 100 else 0.92) <= held / 400 <= 0.985


@pytest.mark.slow
def test_grouped_rows_are_covered_only_by_intervals_over_groups() -> None:
    """With forty groups of eight alike rows, intervals over groups hold; those over rows do not."""
    generator = np.random.default_rng(14)
    held = {"groups": 0, "rows": 0}
    groups = [number // 8 for number in range(320)]
    for number in range(300):
        level = np.repeat(generator.normal(size=40), 8)
        figure = mean("x", level + 0.3 * generator.normal(size=320))
        for name, units in (("groups", groups), ("rows", 320)):
            found = interval(figure, Resampling(units, seed=number, resamples=RESAMPLES))
            held[name] += found.low <= 0 <= found.high
    assert 0.90 <= held["groups"] / 300 <= 0.985
    assert held["rows"] / 300 < 0.7


def test_what_can_not_be_drawn_is_refused() -> None:
    """No rows, or tables of another length, are an error of the caller."""
    with pytest.raises(ValueError, match="no rows"):
        Resampling(0, seed=1)
    with pytest.raises(ValueError, match="can't be paired"):
        Resampling(3, seed=1).sums(np.ones((2, 2)))
    with pytest.raises(ValueError, match="can't be paired"):
        difference(mean("x", [1.0]), mean("x", [1.0, 0.0]), Resampling(2, seed=1))


def test_a_figure_without_spread_has_an_interval_without_width() -> None:
    """A ratio that is the same for every row is the same for every draw."""
    figure = Figure("x", np.array([[1.0, 2.0]] * 8), ratio)
    found = interval(figure, Resampling(8, seed=1))
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
