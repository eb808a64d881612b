"""Labels, and what contradicts itself."""

import pytest

from training.data.labels import Conflict, conflicts, counted
from training.data.rows import Example, Preference, Rated, Row, Text


def asked(text: str, said: str) -> Example:
    """Return one example."""
    return Example(({"role": "user", "content": text},), said)


def rated(text: str, liked: bool) -> Rated:
    """Return one rated answer."""
    return Rated(({"role": "user", "content": text},), "said", liked)


def pair(better: str, worse: str) -> Preference:
    """Return one preference."""
    return Preference(({"role": "user", "content": "a"},), better, worse)


MANY: list[Row] = [asked(f"p{number}", "ab"[number % 2]) for number in range(20)]
FREE: list[Row] = [asked(f"p{number}", f"answer {number}") for number in range(20)]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (MANY, {"a": 10, "b": 10}),
        (FREE, {}),
        ([rated("a", True), rated("b", False), rated("c", True)], {"liked": 2, "not liked": 1}),
        ([asked("a", "x"), asked("b", "x")], {"x": 2}),
        ([pair("x", "y")], {}),
        ([Text("a")], {}),
        ([], {}),
    ],
)
def test_labels_are_counted_where_there_are_any(rows: list[Row], wanted: dict[str, int]) -> None:
    """Free answers have no labels; ratings always do; one answer for all is a label too."""
    assert counted(rows) == wanted


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (
            [*MANY, asked("q", "a"), asked("q", "b"), asked("q", "b")],
            [Conflict((20, 21, 22), (21, 22), (("b", 2), ("a", 1)))],
        ),
        ([*MANY, asked("q", "a"), asked("q", "b")], [Conflict((20, 21), (), (("a", 1), ("b", 1)))]),
        ([*FREE, asked("q", "a"), asked("q", "b")], []),
        ([rated("q", True), rated("q", False)], [Conflict((0, 1), (), (("liked", 1), ("not liked", 1)))]),
        ([pair("x", "y"), pair("y", "x"), pair("x", "z")], [Conflict((0, 1), (), (("x", 1), ("y", 1)))]),
        ([pair("X", "y"), pair("y", "x")], [Conflict((0, 1), (), (("X", 1), ("y", 1)))]),
        ([Text("a"), Text("a")], []),
    ],
)
def test_contradictions_of_one_prompt(rows: list[Row], wanted: list[Conflict]) -> None:
    """The majority stands; where there is none, nothing does. Free answers never contradict each other."""
    assert conflicts(rows, [row.key for row in rows]) == wanted


@pytest.mark.parametrize(
    ("rows", "said", "kept"),
    [
        ([*MANY, asked("q", "a"), asked("q", "b")], [*[1] * 20, 5, 1], (20,)),
        ([*MANY, asked("q", "a"), asked("q", "b")], [*[1] * 20, 3, 3], ()),
        ([rated("q", True), rated("q", False)], [1, 4], (1,)),
        ([rated("q", True), rated("q", False)], [2, 2], ()),
        ([pair("x", "y"), pair("y", "x")], [3, 1], (0,)),
    ],
)
def test_a_row_votes_as_often_as_it_was_there(
    rows: list[Row], said: list[int], kept: tuple[int, ...]
) -> None:
    """Copies are dropped before, and their votes are not."""
    (found,) = conflicts(rows, [row.key for row in rows], said)
    assert found.kept == kept
    assert [count for _, count in found.votes] == sorted(said[-2:], reverse=True)
