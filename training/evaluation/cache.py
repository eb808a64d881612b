"""Answers that were computed before, so that a killed evaluation goes on and a second one is quick.

One file for each system under one set of conditions: a JSON line a row, appended batch by batch. A line that
a kill has torn is left out when the file is read, and its batch is computed again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.data.rows import Example

Found = dict[str, Any]


def row_key(example: Example) -> str:
    """Return what stands for a row: a digest of its messages and its wanted answer."""
    whole = json.dumps([list(example.messages), example.completion], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def condition_key(conditions: Mapping[str, Any]) -> str:
    """Return what stands for everything beside the row that decides an answer."""
    return hashlib.sha256(json.dumps(conditions, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Cache:
    """The kept answers of one system. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None, conditions: Mapping[str, Any]) -> None:
        """Read what is kept under these conditions.

        Raises:
            OSError: the folder can't be read or made.
        """
        self._path: Path | None = None
        self._found: dict[str, Found] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path = folder / f"{condition_key(conditions)}.jsonl"
            self._found = _read(self._path)

    def get(self, key: str) -> Found | None:
        """Return what is kept of a row, or None."""
        return self._found.get(key)

    def has(self, keys: Iterable[str]) -> bool:
        """Whether all these rows are kept."""
        return all(key in self._found for key in keys)

    def add(self, found: Mapping[str, Found]) -> None:
        """Keep a batch of rows, on disk before this returns to the next batch.

        Raises:
            OSError: the disk is full, or the file can't be written.
        """
        self._found.update(found)
        if self._path is None:
            return
        text = "".join(json.dumps({"row": key, **value}) + "\n" for key, value in found.items())
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            # After a torn line a new one begins: two processes may write, and one may have been killed.
            file.write(b"" if _ends_whole(self._path) else b"\n")
            file.write(text.encode())


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> dict[str, Found]:
    found: dict[str, Found] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            document = json.loads(line)
            key = document.pop("row")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        found[str(key)] = document
    return found
