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


def linked(count: int, links: list[tuple[int, int]]) -> list[int]:
    """Return the clusters of so many rows, of which some are linked."""
    parent = list(range(count))

    def root(place: int) -> int:
        return place if parent[place] == place else root(parent[place])

    for one, other in links:
        if max(one, other) < count:
            parent[root(one)] = root(other)
    return [root(place) for place in range(count)]


@given(
    links=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=30), before=st.integers(1, 40)
)
def test_clusters_that_grow_stay_or_move_as_promised(links: list[tuple[int, int]], before: int) -> None:
    """A cluster keeps its place, or takes that of a cluster that it is connected with or of a new row."""
    some = rows(40)
    clusters = linked(40, links)
    old, new = positions(some[:before], clusters=linked(before, links)), positions(some, clusters=clusters)
    own = positions(some)
    for place in range(before):
        others = [other for other in range(40) if clusters[other] == clusters[place]]
        may_be = {old[other] for other in others if other < before} | {
            own[other] for other in others if other >= before
        }
        assert new[place] in may_be
        if all(other < before for other in others) and len({old[other] for other in others}) == 1:
            assert new[place] == old[place]


def test_one_in_n_plus_one_clusters_moves_when_a_row_joins_each() -> None:
    """Of 1,000 clusters of three rows, about 250 move when each gets a fourth, whatever their order."""
    some = rows(4000)
    clusters = [number % 1000 for number in range(4000)]
    before = positions(some[:3000], clusters=clusters[:3000])[:1000]
    after = positions(some, clusters=clusters)[:1000]
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved == pytest.approx(250, abs=60)
    assert positions(some[::-1], clusters=clusters[::-1])[::-1][:1000] == after


def test_clusters_share_one_split_and_the_shares_hold() -> None:
    """Near duplicates with different answers are in one split, and large clusters favour none."""
    some = rows(4000)
    clusters = [number // 4 for number in range(4000)]
    splits = split(some, WHOLE, clusters=clusters)
    found = where(splits)
    for first in range(0, 4000, 4):
        assert len({found[one.key] for one in some[first : first + 4]}) == 1
    assert splits.counts()["test"] == pytest.approx(400, abs=160)


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
