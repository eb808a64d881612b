"""Mixtures by weight and bins of texts: pure arithmetic, held by properties."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fitting.packing import bins, drawn

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(1, 200), st.integers(0, 99))
def test_every_row_is_drawn_as_often_as_its_share(weights: list[float], count: int, seed: int) -> None:
    """A share of 2.3 draws comes two or three times, whatever the seed."""
    found = drawn(weights, count, seed=seed)
    assert len(found) == count
    times = Counter(found)
    for number, weight in enumerate(weights):
        share = weight / sum(weights) * count
        assert share - 1.001 < times[number] < share + 1.001


def test_equal_weights_are_one_pass_over_the_rows() -> None:
    """Mixing with equal shares leaves nothing out and repeats nothing."""
    assert sorted(drawn([2.0] * 7, 7, seed=3)) == list(range(7))


def test_two_tasks_of_unequal_size_can_be_mixed_evenly() -> None:
    """90 rows of weight 1 and 10 of weight 9 give each task half of the draws."""
    found = drawn([1.0] * 90 + [9.0] * 10, 100, seed=1)
    assert sum(number >= 90 for number in found) == 50


def test_the_seed_decides_the_order() -> None:
    """The same seed gives the same draws; another one another order."""
    assert drawn([1.0] * 20, 20, seed=1) == drawn([1.0] * 20, 20, seed=1)
    assert drawn([1.0] * 20, 20, seed=1) != drawn([1.0] * 20, 20, seed=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 64), max_size=60))
def test_bins_hold_every_piece_once_and_nothing_over_their_room(lengths: list[int]) -> None:
    """At most one bin is half empty: the piece that began a bin did not fit into any other."""
    found = bins(lengths, 64)
    assert sorted(number for one in found for number in one) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in one) <= 64 for one in found)
    filled = [sum(lengths[number] for number in one) for one in found]
    assert sum(tokens <= 32 for tokens in filled) <= 1


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [([], 0), ([64], 1), ([40, 24, 30, 34], 2), ([65], 1), ([33, 33, 33], 3)],
)
def test_bins_are_filled_as_well_as_by_hand(lengths: list[int], wanted: int) -> None:
    """Pieces that fill each other are put together; one too long is alone."""
    assert len(bins(lengths, 64)) == wanted
