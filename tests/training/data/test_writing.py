"""Rows that are written and read again."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.parsing import Columns
from training.data.reading import read_dataset
from training.data.rows import DataError, Example, Message, Preference, Rated, Row, Text
from training.data.writing import write_rows

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip()) and text == text.strip()
)
COLUMNS = st.dictionaries(
    WORDS.filter(lambda name: not name.startswith("column_")), WORDS, max_size=2
).filter(
    lambda found: not {"messages", "prompt", "completion", "label", "chosen", "rejected", "text"} & set(found)
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Return messages by turns, which the user ends."""
    system: list[Message] = [{"role": "system", "content": draw(WORDS)}] if draw(st.booleans()) else []
    turns: list[Message] = []
    for _ in range(draw(st.integers(0, 2))):
        turns += [{"role": "user", "content": draw(WORDS)}, {"role": "assistant", "content": draw(WORDS)}]
    return (*system, *turns, {"role": "user", "content": draw(WORDS)})


EXAMPLES = st.builds(
    Example, conversations(), WORDS, st.just(0), COLUMNS, st.floats(0.01, 100) | st.just(1.0)
)
PREFERENCES = st.builds(
    Preference, conversations(), WORDS.map("a".__add__), WORDS.map("b".__add__), st.just(0), COLUMNS
)
RATED = st.builds(Rated, conversations(), WORDS, st.booleans(), st.just(0), COLUMNS)
TEXTS = st.builds(Text, WORDS, st.just(0), st.dictionaries(st.just("source"), WORDS))


def numbered(row: Row, line: int) -> Row:
    """Return a row as it stands in a line."""
    from dataclasses import replace

    return replace(row, line=line)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.one_of(
        *(st.lists(kind, min_size=1, max_size=4) for kind in (EXAMPLES, PREFERENCES, RATED, TEXTS))
    )
)
def test_what_is_written_reads_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    """Rows of every kind come back with their columns and weights, recognised without options."""
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    assert write_rows(rows, path) == len(rows)
    weighted = any(isinstance(row, Example) and row.weight != 1 for row in rows)
    if weighted:
        rows = [row for row in rows if isinstance(row, Example) and row.weight != 1]
        path.unlink()
        write_rows(rows, path)
    found = read_dataset(str(path), columns=Columns(weight="weight") if weighted else None)
    assert found.rows == tuple(numbered(row, line) for line, row in enumerate(rows, start=1))


def test_a_column_that_would_say_another_form_is_renamed(tmp_path: Path) -> None:
    """A chat row with a column `prompt` is still a chat row when it is read again; columns are masked."""
    row = Example(({"role": "user", "content": "a"},), "b", columns={"text": "t", "mail": "a@b.example"})
    path = tmp_path / "a.jsonl"
    write_rows([row], path, mask=lambda text: text.replace("a@b.example", "[E-MAIL]"))
    (found,) = read_dataset(str(path)).rows
    assert found.columns == {"column_text": "t", "mail": "[E-MAIL]"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that is there stays, and another ending is refused."""
    path = tmp_path / "a.jsonl"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="exists already"):
        write_rows([], path)
    with pytest.raises(DataError, match=r"does not end in \.jsonl"):
        write_rows([], tmp_path / "a.csv")
    assert path.read_text(encoding="utf-8") == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A disk that is full half-way leaves no file that looks whole."""

    def full(_: str) -> str:
        raise OSError("no space left")

    rows = [Text("a"), Text("b", columns={"source": "x"})]
    with pytest.raises(OSError, match="no space"):
        write_rows(rows, tmp_path / "a.jsonl", mask=full)
    assert not list(tmp_path.iterdir())
