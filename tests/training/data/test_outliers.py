"""Rows that are unlike the others."""

import numpy as np

from training.data.lengths import lengths_of, row_length
from training.data.outliers import by_length, by_meaning
from training.data.rows import Preference


def test_a_row_ten_times_as_long_is_odd() -> None:
    """Lengths are compared on a logarithmic scale, and by what half of the rows do."""
    lengths = [90 + number % 20 for number in range(100)]
    assert by_length([*lengths, 1000, 2]) == [101, 100]
    assert by_length(lengths) == []
    assert by_length([5] * 50 + [500]) == []
    assert by_length([1, 1000]) == []


def test_a_prompt_that_nothing_resembles_is_odd() -> None:
    """What counts is the distance to the nearest others, so that several topics are no oddity."""
    draw = np.random.default_rng(1)
    topics = np.repeat(np.eye(32)[:2], 40, axis=0) + draw.normal(0, 0.02, (80, 32))
    vectors = np.vstack([topics, np.eye(32)[9]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert by_meaning(vectors) == [80]
    assert by_meaning(vectors[:10]) == []


def test_lengths_have_figures_and_a_histogram() -> None:
    """Every row is in one bar, and the bars reach from the shortest to the longest."""
    found = lengths_of([1, 2, 3, 4, 100], "tokens")
    assert found is not None
    assert (found.median, found.longest, sum(found.counts)) == (3.0, 100, 5)
    assert (found.edges[0], len(found.edges)) == (1, len(found.counts) + 1)
    assert found.edges[-1] >= 100
    assert lengths_of([], "tokens") is None
    assert lengths_of([7, 7], "tokens").counts == (2,)  # type: ignore[union-attr]


def test_a_preference_is_as_long_as_its_longer_answer() -> None:
    """The model reads one answer at a time."""
    assert row_length(Preference(({"role": "user", "content": "abc"},), "de", "fghi"), len) == 7
