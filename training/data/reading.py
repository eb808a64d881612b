"""Read training rows from JSONL or CSV: every fault is named by file, line and field.

Three shapes are recognised: columns for prompt and completion (any names, given by options), and chat rows
`{"messages": [...]}` as OpenAI's fine-tuning files have them, whose last message is the answer.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import ROLES, DataError, Example, Message

MAX_FAULTS_SHOWN = 5
MAX_FIELD_CHARS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the prompt and the answer stand."""

    prompt: str = "prompt"
    completion: str = "completion"


class _Fault(ValueError):
    """What is wrong with one row."""


def read(path: Path, columns: Columns | None = None) -> list[Example]:
    """Return the rows of a `.jsonl` or `.csv` file, in order. Blank lines of JSONL are skipped.

    Chat rows are recognised unless `columns` is given.

    Raises:
        DataError: the file is missing, of another kind, empty, or has faulty rows (the first five are named).
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; name a .jsonl or .csv file")
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has the ending {path.suffix!r}; .jsonl and .csv are read")
    examples: list[Example] = []
    faults: list[str] = []
    for line, row in reader(path, columns or Columns()):
        try:
            examples.append(_example(row, columns, line))
        except _Fault as fault:
            faults.append(f"{path}:{line}: {fault}")
    if faults:
        more = len(faults) - MAX_FAULTS_SHOWN
        shown = faults[:MAX_FAULTS_SHOWN] + ([f"and {more} more faulty rows"] if more > 0 else [])
        raise DataError("\n".join(shown))
    if not examples:
        raise DataError(f"{path} holds no rows")
    return examples


def _jsonl(path: Path, _columns: Columns) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
                if text:
                    yield line, json.loads(text)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{line}: byte {error.start + 1} is not UTF-8; convert the file"
                ) from error
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}:{line}: column {error.colno} is not JSON ({error.msg}); "
                    "every line must be one JSON object"
                ) from error


def _csv(path: Path, columns: Columns) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            header = rows.fieldnames or []
            for column in (columns.prompt, columns.completion):
                if header.count(column) != 1:
                    raise DataError(
                        f"{path}:1: the header has {header.count(column)} columns named {column!r}; it has "
                        f"{', '.join(map(repr, header)) or 'nothing'}. "
                        "Name yours with --prompt-column and --completion-column"
                    )
            first = rows.line_num + 1
            for row in rows:
                yield first, row
                first = rows.line_num + 1
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 near byte {error.start + 1}; convert the file") from error
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: not valid CSV ({error})") from error


def _example(row: Any, columns: Columns | None, line: int) -> Example:
    if not isinstance(row, dict):
        raise _Fault(f"the line is a {type(row).__name__}, and must be a JSON object")
    if columns is None and "messages" in row:
        *before, last = _messages(row["messages"])
        if last["role"] != "assistant" or not before:
            raise _Fault("field 'messages': the last message must be the assistant's, after another one")
        return Example(tuple(before), last["content"].strip(), line)
    places = columns or Columns()
    prompt = _text(row, places.prompt)
    return Example(({"role": "user", "content": prompt},), _text(row, places.completion), line)


def _text(row: dict[str, Any], field: str) -> str:
    if field not in row or row[field] is None:
        there = ", ".join(repr(name) for name in row if name is not None)
        raise _Fault(f"field {field!r} is missing; the row has {there or 'no field'}")
    value = row[field]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # labels are often written 0 and 1
    if not isinstance(value, str):
        raise _Fault(f"field {field!r} is {_kind(value)}, and must be a string or a whole number")
    if not value.strip():
        raise _Fault(f"field {field!r} is empty")
    return value.strip()


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or len(value) < 2:
        raise _Fault("field 'messages' must be a list of at least two messages")
    messages: list[Message] = []
    for number, message in enumerate(value):
        place = f"field 'messages[{number}]'"
        if not isinstance(message, dict):
            raise _Fault(f"{place} is {_kind(message)}, and must be an object with role and content")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise _Fault(f"{place}: role is {role!r}, and must be one of {', '.join(ROLES)}")
        if not isinstance(content, str) or not content.strip():
            raise _Fault(f"{place}: content must be a string that is not empty")
        messages.append({"role": role, "content": content})
    return messages


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        bool: "true or false",
        float: "a fraction",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")
