"""The splits by hash of the prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.rows import DataError, Example
from training.data.splits import Shares, position, split


def row(text: str, answer: str = "yes") -> Example:
    """Return one row."""
    return Example(({"role": "user", "content": text},), answer)


def rows(count: int, start: int = 0) -> list[Example]:
    """Return rows with prompts of their own."""
    return [row(f"prompt {number}") for number in range(start, start + count)]


def keys(found: tuple[Example, ...]) -> set[str]:
    """Return the prompts of one split."""
    return {example.key for example in found}


def test_rows_stay_where_they_are_when_others_are_added() -> None:
    """No row of the old test set is trained on after new rows came."""
    shares = Shares(validation=0.1, test=0.2, max_validation=1000, max_test=1000)
    before, after = split(rows(300), shares), split(rows(900), shares)
    for name in ("train", "validation", "test"):
        assert keys(getattr(before, name)) <= keys(getattr(after, name))


def test_the_order_of_the_rows_does_not_matter() -> None:
    """The same rows in another order give the same splits."""
    assert split(rows(200), Shares()) == split(rows(200)[::-1], Shares())


def test_the_shares_come_out_about_right() -> None:
    """A hash spreads prompts evenly."""
    counts = split(rows(4000), Shares(validation=0.1, test=0.2, max_validation=9999, max_test=9999)).counts()
    assert counts["test"] == pytest.approx(800, abs=100)
    assert counts["validation"] == pytest.approx(400, abs=80)
    assert sum(counts.values()) == 4000


def test_copies_stay_together_and_count_once_in_the_test() -> None:
    """Rows that differ in case and white space only are one prompt, in one split."""
    copies = [row(f" PROMPT   {number}") for number in range(300)]
    found = split(rows(300) + copies, Shares(max_test=1000))
    positions = {name: {position(item.key) for item in getattr(found, name)} for name in ("train", "test")}
    assert not positions["train"] & positions["test"]
    assert len(positions["test"]) == len(found.test)


def test_limits_take_rows_in_the_order_of_their_hashes() -> None:
    """A limited split is a part of the whole one."""
    whole, part = split(rows(500), Shares()), split(rows(500), Shares(max_train=50, max_test=20))
    assert part.train == whole.train[:50]
    assert part.test == whole.test[:20]


def test_too_few_rows_are_refused() -> None:
    """Rows that leave nothing to judge by are an error of the data."""
    with pytest.raises(DataError, match="3 rows leave"):
        split(rows(3), Shares())


@pytest.mark.parametrize(
    ("validation", "test", "limit"), [(0.5, 0.5, None), (-0.1, 0.2, None), (0.1, 0.0, None), (0.1, 0.2, 0)]
)
def test_shares_that_make_no_sense_are_refused(validation: float, test: float, limit: int | None) -> None:
    """Options that leave nothing to train on or to judge by are refused at once."""
    with pytest.raises(ValueError, match="--"):
        Shares(validation, test, limit)


@given(st.text())
def test_a_position_is_a_share(text: str) -> None:
    """Whatever the prompt, its position lies in [0, 1) and does not depend on case."""
    assert 0 <= position(text) < 1
    assert position(f" {text} ") == position(text)
