"""The rows of a run as a file."""

import pytest

from training.data.rows import DataError, Example, Kind, Preference, Rated, Row, Text
from training.data.splits import Splits
from training.runs.snapshot import Snapshot, snapshot_of

ASK = ({"role": "user", "content": "a\u2028b\nc"},)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("examples", Example(ASK, "yes", 3, {"topic": "x"}, 2.0)),
        ("preferences", Preference(ASK, "good", "bad", 4, {"topic": "é"})),
        ("rated", Rated(ASK, "fine", True, 5)),
        ("texts", Text("some text", 6)),
    ],
)
def test_rows_come_back_as_they_were(kind: Kind, row: Row) -> None:
    """A resumed run trains on the very rows that it began with, in their order and their splits."""
    snapshot = Snapshot(kind, Splits((row, row), (row,), ()))
    again = snapshot_of(snapshot.text())
    assert again.kind == kind
    assert again.splits == snapshot.splits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        '{"kind": "poems"}\n',
        '{"kind": "texts"}\n{"split": "train"\n',
        '{"kind": "texts"}\n{"split": "train"}\n',
    ],
)
def test_a_file_that_is_cut_or_something_else_is_an_error(text: str) -> None:
    """Training never goes on with half the rows."""
    with pytest.raises(DataError, match="the run's rows can't be read"):
        snapshot_of(text)
