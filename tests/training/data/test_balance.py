"""How alike the splits are, and classes resampled."""

from collections import Counter

import pytest

from training.data.balance import Resampling, balance, resampled
from training.data.rows import Example, Text
from training.data.splits import Splits


def rows(label: str, count: int, start: int = 0) -> list[Example]:
    """Return rows of one class."""
    return [
        Example(({"role": "user", "content": f"{label} {number}"},), label)
        for number in range(start, start + count)
    ]


def labels(found: tuple[Example, ...]) -> Counter[str]:
    """Return the size of each class."""
    return Counter(row.completion for row in found)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Resampling("down"), {"a": 30, "b": 30}),
        (Resampling("down", 10), {"a": 10, "b": 10}),
        (Resampling("down", 50), {"a": 50, "b": 30}),
        (Resampling("up"), {"a": 90, "b": 90}),
        (Resampling("up", 60), {"a": 90, "b": 60}),
    ],
)
def test_classes_are_cut_or_repeated_to_the_cap(how: Resampling, wanted: dict[str, int]) -> None:
    """`down` cuts what is larger, `up` repeats what is smaller, and neither does the other."""
    found = resampled(rows("a", 90) + rows("b", 30), how)
    assert labels(found) == wanted


def test_repeated_rows_come_in_turns() -> None:
    """No row is repeated twice more often than another one, and all of the old rows are there."""
    old = rows("a", 50) + rows("b", 20)
    found = resampled(old, Resampling("up"))
    assert found[:70] == tuple(old)
    times = Counter(row.key for row in found if row.completion == "b")
    assert set(times.values()) == {2, 3}


def test_what_is_cut_changes_little_when_rows_are_added() -> None:
    """The rows that stay are chosen by a hash: most of them stay again."""
    before = resampled(rows("a", 100) + rows("b", 40), Resampling("down"))
    after = resampled(rows("a", 110) + rows("b", 40), Resampling("down"))
    kept = {row.key for row in before}
    assert len(kept & {row.key for row in after}) >= 70
    other = resampled(rows("a", 100) + rows("b", 40), Resampling("down", seed=8))
    assert {row.key for row in other} != kept


def test_rows_without_labels_are_left_alone() -> None:
    """There is nothing to balance."""
    some = (Text("a"), Text("b"))
    assert resampled(some, Resampling("up")) == some


def test_a_cap_must_leave_something() -> None:
    """Zero rows of each class are none."""
    with pytest.raises(ValueError, match="--resample-cap is 0"):
        Resampling("up", 0)


def test_the_balance_of_splits_is_told() -> None:
    """Each split's labels stand beside those of all rows, with the gap that chance would make."""
    splits = Splits(
        tuple(rows("a", 80) + rows("b", 80)),
        tuple(rows("a", 10, 100) + rows("b", 10, 100)),
        tuple(rows("a", 20, 200)),
    )
    train, validation, test = balance(splits, len)
    assert (train.rows, validation.rows, test.rows) == (160, 20, 20)
    assert test.labels == {"a": 1.0}
    assert test.gap == pytest.approx(45, abs=0.1)
    assert test.gap > test.chance > train.chance
    assert validation.gap < validation.chance


def test_an_empty_split_has_a_balance() -> None:
    """Nothing is divided by nothing."""
    found = balance(Splits(tuple(rows("a", 6) + rows("b", 6)), (), tuple(rows("a", 3))), len)
    assert (found[1].rows, found[1].gap, found[1].median_length) == (0, 0.0, 0.0)
