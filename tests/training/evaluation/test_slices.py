"""Parts of the rows."""

import numpy as np
import pytest

from training.data.rows import Example
from training.evaluation.figures import mean
from training.evaluation.resampling import Resampling
from training.evaluation.slices import (
    LENGTH,
    MAX_VALUES,
    MIN_UNITS,
    MISSING,
    figures_in,
    gaps_in,
    most_harmed,
    slices_of,
    weakest,
)


def rows(values: list[str | None], lengths: list[int] | None = None) -> list[Example]:
    """Return rows with a field `product`, where there is a value."""
    sizes = lengths or [10] * len(values)
    return [
        Example(
            ({"role": "user", "content": "x" * size},),
            "a",
            columns={} if value is None else {"product": value},
        )
        for value, size in zip(values, sizes, strict=True)
    ]


def test_a_field_makes_a_slice_of_each_value() -> None:
    """The commonest first; rows without the field are a slice of their own."""
    found = slices_of(rows(["b", "a", "a", None]), ["product"])
    assert [(part.column, part.value, part.places.tolist()) for part in found] == [
        ("product", "a", [1, 2]),
        ("product", MISSING, [3]),
        ("product", "b", [0]),
    ]


def test_lengths_make_thirds() -> None:
    """Short, middle and long prompts; prompts of one length make no slices."""
    found = slices_of(rows([None] * 30, list(range(10, 40))), [])
    assert [part.column for part in found] == [LENGTH] * 3
    assert [len(part.places) for part in found] == [10, 10, 10]
    assert slices_of(rows([None] * 30), []) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [(["a"], "there are product"), ([str(n) for n in range(MAX_VALUES + 1)], "values")],
)
def test_a_field_that_makes_no_slices_is_refused(values: list[str | None], message: str) -> None:
    """One that is not there, or one that is an identifier."""
    column = "product" if len(values) > 1 else "user"
    with pytest.raises(ValueError, match=message):
        slices_of(rows(values), [column])


def population() -> tuple[list[Example], np.ndarray, np.ndarray]:
    """Return 400 rows in three large slices and a tiny one: the candidate is worse than before on `b`."""
    generator = np.random.default_rng(1)
    values: list[str | None] = ["a"] * 190 + ["b"] * 100 + ["c"] * 100 + ["d"] * 10
    shares = {"a": 0.9, "b": 0.5, "c": 0.9, "d": 0.1}
    ours = np.array([generator.random() < shares[str(value)] for value in values], dtype=float)
    before = np.array([generator.random() < 0.88 for _ in values], dtype=float)
    return rows(values), ours, before


def test_the_worst_slice_is_named_and_small_ones_are_not_judged() -> None:
    """`b` stands certainly below the rest; `d` is lower, has ten rows, and is only shown."""
    some, ours, _ = population()
    found = figures_in(slices_of(some, ["product"]), mean("accuracy", ours), Resampling(400, seed=1), seed=1)
    by_name = {each.name: each for each in found}
    assert [each.judged for each in found] == [True, True, True, False]
    assert by_name["product = d"].rows == 10 < MIN_UNITS
    assert by_name["product = d"].from_rest is None
    worst = weakest(found)
    assert worst is not None
    assert worst.name == "product = b"
    assert worst.from_rest is not None
    assert worst.from_rest.high < 0


def test_harm_in_a_slice_is_found_with_adjusted_values() -> None:
    """Three slices are judged: the interval is at 1 - 0.05/3, the p-value Holm's."""
    some, ours, before = population()
    draws = Resampling(400, seed=1)
    found = gaps_in(
        slices_of(some, ["product"]), mean("accuracy", ours), mean("accuracy", before), draws, "x@1"
    )
    harmed = most_harmed(found)
    assert harmed is not None
    assert (harmed.name, harmed.against) == ("product = b", "x@1")
    assert harmed.gap.high < 0
    assert harmed.p_holm is not None
    assert harmed.p_holm < 0.001
    assert [each.p_holm is None for each in found] == [False, False, False, True]


def test_for_losses_the_highest_is_the_worst() -> None:
    """A direction belongs to a metric."""
    some, ours, _ = population()
    found = figures_in(slices_of(some, ["product"]), mean("loss", 1 - ours), Resampling(400, seed=1), seed=1)
    worst = weakest(found)
    assert worst is not None
    assert worst.name == "product = b"


def test_groups_are_counted_not_rows() -> None:
    """A hundred rows of three users are too few to judge by."""
    some, ours, _ = population()
    groups = [number // 40 for number in range(400)]
    found = figures_in(
        slices_of(some, ["product"]), mean("accuracy", ours), Resampling(groups, seed=1), seed=1
    )
    assert not any(each.judged for each in found)
    assert weakest(found) is None


@pytest.mark.slow
def test_no_slice_stands_out_more_often_than_stated() -> None:
    """Where all five slices are alike, some stands out in at most 8 of 100 evaluations (5 are meant)."""
    generator = np.random.default_rng(3)
    some = rows([f"s{number % 5}" for number in range(300)])
    parts = slices_of(some, ["product"])
    wrong = 0
    for number in range(100):
        figure = mean("accuracy", (generator.random(300) < 0.8).astype(float))
        found = figures_in(parts, figure, Resampling(300, seed=number, resamples=500), seed=number)
        wrong += any(each.from_rest is not None and each.from_rest.excludes_zero() for each in found)
    assert wrong / 100 <= 0.08
