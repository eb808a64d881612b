"""Files as raw rows with their line numbers: JSON Lines, JSON, CSV, TSV, Parquet and plain text.

Everything is read in bounded pieces: a line that never ends, or a file too large for memory, is an error that
says so, not a process that dies. What the rows mean is decided elsewhere (`training.data.recognise`).
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.data.rows import DataError

_MIB = 1024 * 1024
_MAX_JSON_BYTES = 256 * _MIB
_ROWS_AT_ONCE = 256
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")

Raw = tuple[int, Any]
"""The line where a row begins (in Parquet and JSON its number from 1), and the row as it stands there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest line and cell, the largest file (bytes, Parquet unpacked), and the most rows."""

    line_bytes: int = 4 * _MIB
    total_bytes: int = 1024 * _MIB
    rows: int = 2_000_000


def raw_rows(path: Path, limits: Limits) -> Iterator[Raw]:
    """Yield the rows of a file by its ending, in order. Blank lines of JSON Lines are skipped.

    Raises:
        DataError: there is no such file, it is of another kind or beyond the limits, or its form is broken.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; name {_ENDINGS}, hf://ORG/NAME or turnout:ROUTE")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has the ending {path.suffix!r}; {_ENDINGS} are read")
    size = path.stat().st_size
    if size > limits.total_bytes:
        raise DataError(
            f"{path} has {size / _MIB:,.0f} MiB, above the limit of {limits.total_bytes / _MIB:,.0f}: "
            "rows are held in memory. Train on a part of it, or raise --max-mib"
        )
    for count, row in enumerate(reader(path, limits), start=1):
        if count > limits.rows:
            raise DataError(f"{path} has more than {limits.rows:,} rows; train on a part of them")
        yield row


def lines(path: Path, limits: Limits) -> Iterator[tuple[int, str]]:
    """Yield a UTF-8 file's lines with their numbers, line ends kept, never more than a line in memory.

    Raises:
        DataError: a line is too long or not UTF-8.
    """
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(limits.line_bytes + 1):
            number += 1
            if len(raw) > limits.line_bytes:
                raise DataError(
                    f"{path}:{number}: the line is longer than {limits.line_bytes / _MIB:.0f} MiB; "
                    "is a line end missing? No model reads that much: cut the row, or leave it out"
                )
            if number == 1 and raw.startswith(_WIDE_BOMS):
                raise DataError(f"{path} is UTF-16; convert it to UTF-8")
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8; convert the file"
                ) from error


def _json_lines(path: Path, limits: Limits) -> Iterator[Raw]:
    for number, line in lines(path, limits):
        if line.strip():
            yield number, _loaded(line.strip(), f"{path}:{number}", "every line must be one JSON object")


def _json(path: Path, limits: Limits) -> Iterator[Raw]:
    """Yield the items of one JSON list, as Alpaca's file is; they are numbered from 1."""
    # Written by a program, the whole list is often one line.
    whole = replace(limits, line_bytes=min(limits.total_bytes, _MAX_JSON_BYTES))
    content = "".join(line for _, line in lines(path, whole))
    if not content.strip():
        return
    document = _loaded(
        content, str(path), "a .json file must be one list of objects; JSON Lines end in .jsonl"
    )
    if not isinstance(document, list):
        raise DataError(f"{path} is not a list of objects; name JSON Lines .jsonl")
    yield from enumerate(document, start=1)


def _loaded(text: str, place: str, wanted: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: column {error.colno} is not JSON ({error.msg}); {wanted}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 5,000 deep
        raise DataError(f"{place}: can't be read as JSON ({error})") from error


def _csv(path: Path, limits: Limits, *, delimiter: str = ",") -> Iterator[Raw]:
    csv.field_size_limit(limits.line_bytes)
    rows = csv.DictReader((line for _, line in lines(path, limits)), strict=True, delimiter=delimiter)
    try:
        header = rows.fieldnames or []
        _check_header(path, list(header), delimiter)
        first = rows.line_num + 1
        for row in rows:
            if None in row:
                raise DataError(
                    f"{path}:{first}: the row has {len(header) + len(row[None])} fields, and the header "
                    f"{len(header)}; is a quote or a line end missing?"
                )
            yield first, row
            first = rows.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: not valid CSV ({error})") from error


def _check_header(path: Path, header: list[str], delimiter: str) -> None:
    if not header:
        raise DataError(f"{path}:1: the header has nothing; the first line must name the columns")
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}:1: the header has {header.count(name)} columns named {name!r}")
    others = [other for other in (",", ";", "\t") if other != delimiter and other in header[0]]
    if len(header) == 1 and others:
        raise DataError(
            f"{path}:1: the header is one column, {header[0]!r}; the separator must be "
            f"{'a tab' if delimiter != ',' else 'a comma (.csv) or a tab (.tsv)'}"
        )


def _tsv(path: Path, limits: Limits) -> Iterator[Raw]:
    return _csv(path, limits, delimiter="\t")


def _parquet(path: Path, limits: Limits) -> Iterator[Raw]:
    from pyarrow import ArrowException  # noqa: PLC0415 - half a second, and only for Parquet
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    try:
        with ParquetFile(path) as file:
            parts = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            unpacked = sum(part.total_byte_size for part in parts)
            if unpacked > limits.total_bytes:
                raise DataError(
                    f"{path} unpacks to {unpacked / _MIB:,.0f} MiB, above the limit of "
                    f"{limits.total_bytes / _MIB:,.0f}: rows are held in memory. Train on a part of it, or "
                    "raise --max-mib"
                )
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} can't be read as Parquet ({error})") from error


def _text(path: Path, limits: Limits) -> Iterator[Raw]:
    """Yield paragraphs: what stands between empty lines."""
    paragraph: list[str] = []
    first, size = 0, 0
    for number, line in lines(path, limits):
        if line.strip():
            first = number if not paragraph else first
            paragraph.append(line)
            size += len(line)
            if size > limits.line_bytes:
                raise DataError(
                    f"{path}:{first}: the paragraph is longer than {limits.line_bytes / _MIB:.0f} MiB; "
                    "empty lines part a text into rows"
                )
        elif paragraph:
            yield first, {"text": "".join(paragraph)}
            paragraph, size = [], 0
    if paragraph:
        yield first, {"text": "".join(paragraph)}


_READERS: dict[str, Callable[[Path, Limits], Iterator[Raw]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".txt": _text,
}
ENDINGS = frozenset(_READERS)
_ENDINGS = ".jsonl, .json, .csv, .tsv, .parquet and .txt"
