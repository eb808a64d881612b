"""The file formats: their rows, their line numbers and their limits."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.formats import Limits, lines, raw_rows
from training.data.reading import read_dataset
from training.data.rows import DataError, Example, Text


def test_formats_give_the_same_rows(tmp_path: Path) -> None:
    """JSON Lines, JSON, CSV, TSV and Parquet hold the same two rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": "a, b", "completion": "ü"}, {"prompt": "c", "completion": "d"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.csv").write_text('prompt,completion\n"a, b",ü\nc,d\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text("prompt\tcompletion\na, b\tü\nc\td\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet"):
        found = read_dataset(str(tmp_path / name)).rows
        assert [
            (row.messages[0]["content"], row.completion) for row in found if isinstance(row, Example)
        ] == [
            ("a, b", "ü"),
            ("c", "d"),
        ], name


def test_a_text_file_is_parted_at_empty_lines(tmp_path: Path) -> None:
    """Each paragraph is one row, numbered by the line where it begins."""
    path = tmp_path / "a.txt"
    path.write_text("\none\ntwo\n\n \nthree\n", encoding="utf-8")
    assert read_dataset(str(path)).rows == (Text("one\ntwo", 2), Text("three", 6))


def test_a_line_of_100_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    """Only so much of it is read as the limit allows; the message says which line it is."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "a", "completion": "b"}\n')
        file.truncate(100 * 2**20)  # a hole: no disk is used
    with pytest.raises(DataError, match=r"a\.jsonl:2: the line is longer than 4 MiB"):
        read_dataset(str(path))


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_long_lines_are_refused_in_every_text_format(tmp_path: Path, name: str) -> None:
    """Quotes that never end and paragraphs without an end are found by the same limit."""
    path = tmp_path / name
    path.write_text("prompt,completion\n" + "\n".join(["word " * 30] * 40), encoding="utf-8")
    limits = Limits(line_bytes=1000)
    with pytest.raises(DataError, match=name):
        read_dataset(str(path), columns=None, kind=None, limits=limits)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(total_bytes=10), "raise --max-mib"),
        (Limits(rows=2), "more than 2 rows"),
        (Limits(line_bytes=5), "a.jsonl:1: the line is longer"),
    ],
)
def test_limits_are_errors_that_say_so(tmp_path: Path, limits: Limits, said: str) -> None:
    """Too much is refused before memory runs out."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 3, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        list(raw_rows(path, limits))


def test_parquet_is_bounded_by_what_it_unpacks_to(tmp_path: Path) -> None:
    """A small file that unpacks to much more is refused by its own header."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 100_000 + str(number) for number in range(20)]}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="unpacks to"):
        list(raw_rows(path, Limits(total_bytes=1_000_000)))


def test_a_cell_that_is_too_long_is_a_fault_of_its_row(tmp_path: Path) -> None:
    """Formats without lines have the same limit for a row's text."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 200}, {"text": "y"}]), encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json:1: the row has 200 characters"):
        read_dataset(str(path), limits=Limits(line_bytes=100))


def test_columns_of_any_type_are_text(tmp_path: Path) -> None:
    """Dates and numbers are written out; of bytes, such as an image's, only their number is kept."""
    import datetime as dt

    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {
        "prompt": "a",
        "completion": "b",
        "at": dt.date(2026, 1, 2),
        "n": 1.5,
        "image": {"bytes": b"12345"},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (found,) = read_dataset(str(tmp_path / "a.parquet")).rows
    assert found.columns == {"at": "2026-01-02", "n": "1.5", "image": '{"bytes": "5 bytes"}'}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1 no", "can't be read as Parquet"),
        ("a.json", b"{}", "not a list"),
        ("a.json", b"[1", "is not JSON"),
        ("a.json", b"", "holds no rows"),
        ("a.txt", b"\n\n", "holds no rows"),
        ("a.txt", b"ok\n\xe4\n", "a.txt:2: byte 1 of the line is not UTF-8"),
        ("a.jsonl", "ä".encode("utf-16"), "is UTF-16"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """The message names the file and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_dataset(str(tmp_path / name))


def test_lines_keep_their_ends_and_numbers(tmp_path: Path) -> None:
    """A byte order mark is taken off the first line only."""
    path = tmp_path / "a.txt"
    path.write_text("\ufeffa\n\ufeffb", encoding="utf-8")
    assert list(lines(path, Limits())) == [(1, "a\n"), (2, "\ufeffb")]


LINES = st.lists(
    st.sampled_from(
        [
            b'{"prompt": "a", "completion": "b"}', b'{"prompt": "a", "completion": "b", "label": true}',
            b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', b'"',
            b'{"text": 1}', b"prompt,text", b'{"chosen": [], "rejected": {}}', b"null",
            b"\xef\xbb\xbf", b"\r", b"1e999", b'{"a": NaN}', b"PAR1", b"prompt,completion", b'"a\n',
            b"a,b", b"]", b"[", b"{}", b"\xff", b"\x00", b"\xe2\x80\xa8", b'{"text": "\\ud800"}',
        ]
    )
    | st.binary(max_size=12),
    max_size=5,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    content=LINES.map(b"\n".join), ending=st.sampled_from(["jsonl", "json", "csv", "tsv", "txt", "parquet"])
)
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    """No content ends in anything but rows or an error of the data that names the file."""
    path = tmp_path_factory.mktemp("fuzz") / f"a.{ending}"
    path.write_bytes(content)
    said = str(path)
    try:
        assert read_dataset(str(path)).rows
    except DataError as error:
        said = str(error)
    assert str(path) in said
