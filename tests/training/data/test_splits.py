"""The splits by hash of the prompt, of a cluster, or of a group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.rows import DataError, Example, Row, Text
from training.data.splits import Shares, Splits, position, positions, split

WHOLE = Shares(max_validation=9999, max_test=9999)


def row(text: str, answer: str = "yes", **columns: str) -> Example:
    """Return one row."""
    return Example(({"role": "user", "content": text},), answer, columns=columns)


def rows(count: int, start: int = 0) -> list[Example]:
    """Return rows with prompts of their own."""
    return [row(f"prompt {number}") for number in range(start, start + count)]


def keys(found: tuple[Example, ...]) -> set[str]:
    """Return the prompts of one split."""
    return {example.key for example in found}


def where(found: Splits[Example]) -> dict[str, str]:
    """Return the split of every prompt."""
    parts = {"train": found.train, "validation": found.validation, "test": found.test}
    return {one.key: name for name, part in parts.items() for one in part}


def test_rows_stay_where_they_are_when_others_are_added() -> None:
    """No row of the old test set is trained on after new rows came."""
    before, after = split(rows(300), WHOLE), split(rows(900), WHOLE)
    for name in ("train", "validation", "test"):
        assert keys(getattr(before, name)) <= keys(getattr(after, name))


def test_the_order_of_the_rows_does_not_matter() -> None:
    """The same rows in another order give the same splits."""
    assert split(rows(200), Shares()) == split(rows(200)[::-1], Shares())


def test_the_shares_come_out_about_right() -> None:
    """A hash spreads prompts evenly: 80, 10 and 10 of a hundred by default."""
    counts = split(rows(4000), WHOLE).counts()
    assert counts["test"] == pytest.approx(400, abs=80)
    assert counts["validation"] == pytest.approx(400, abs=80)
    assert sum(counts.values()) == 4000


def test_copies_stay_together_and_count_once_in_the_test() -> None:
    """Rows that differ in case and white space only are one prompt, in one split."""
    copies = [row(f" PROMPT   {number}") for number in range(300)]
    found = split(rows(300) + copies, WHOLE)
    places = {name: {position(item.key) for item in getattr(found, name)} for name in ("train", "test")}
    assert not places["train"] & places["test"]
    assert len(places["test"]) == len(found.test)


def test_limits_take_rows_in_the_order_of_their_hashes() -> None:
    """A limited split is a part of the whole one."""
    whole, part = split(rows(500), Shares()), split(rows(500), Shares(max_train=50, max_test=20))
    assert part.train == whole.train[:50]
    assert part.test == whole.test[:20]


@given(
    links=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), max_size=60),
    size=st.integers(60, 120),
)
def test_what_was_trained_on_is_never_held_out_later(links: list[tuple[int, int]], size: int) -> None:
    """Rows come and clusters grow together; rows of train stay there, and others only move up."""
    everything = rows(120)

    def placed(count: int) -> list[float]:
        parent = list(range(count))

        def root(place: int) -> int:
            return place if parent[place] == place else root(parent[place])

        for one, other in links:
            if max(one, other) < count:
                parent[root(one)] = root(other)
        return positions(everything[:count], clusters=[root(place) for place in range(count)])

    before, after = placed(size), placed(120)
    assert all(later >= earlier for earlier, later in zip(before, after[:size], strict=True))


def test_a_cluster_lies_where_its_highest_row_lies() -> None:
    """Near duplicates with different answers are in one split."""
    some = rows(400)
    clusters = [number // 4 for number in range(400)]
    found = where(split(some, WHOLE, clusters=clusters))
    for first in range(0, 400, 4):
        assert len({found[one.key] for one in some[first : first + 4]}) == 1


def test_groups_stay_whole_and_where_they_are() -> None:
    """A group's rows are in one split, which depends on its name alone."""
    some = [row(f"prompt {number}", customer=f"c{number % 60}") for number in range(600)]
    found, before = (
        where(split(some, WHOLE, group="customer")),
        where(split(some[:400], WHOLE, group="customer")),
    )
    assert {found[key] for key in before} >= set(before.values())
    assert all(found[key] == name for key, name in before.items())
    for number in range(60):
        assert len({found[one.key] for one in some if one.columns["customer"] == f"c{number}"}) == 1


def test_a_missing_group_names_the_line_and_the_columns() -> None:
    """A row without the column is a mistake of the data."""
    some: list[Row] = [Text("a", 3, {"source": "x"})]
    with pytest.raises(DataError, match="line 3: --group 'customer' is missing; the row has 'source'"):
        split(some, WHOLE, group="customer")


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
