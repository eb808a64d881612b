"""Faults of rows: collected, so that a file is mended in one round, and named by where they stand."""

from typing import Any

from training.data.rows import DataError

MAX_FAULTS_SHOWN = 5

_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a fraction",
    type(None): "null",
}


class Fault(ValueError):
    """What is wrong with one row; the message names the field."""


class Faults:
    """The faults of one source: the first few in words, the others as a number."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: list[str] = []
        self._count = 0

    def add(self, line: int, fault: Fault) -> None:
        """Note what is wrong with the row that begins in a line."""
        self._count += 1
        if self._count <= MAX_FAULTS_SHOWN:
            self._shown.append(f"{self._source}:{line}: {fault}")

    def check(self) -> None:
        """Refuse the source if any row is faulty.

        Raises:
            DataError: some are; the first five are named.
        """
        if not self._count:
            return
        more = self._count - MAX_FAULTS_SHOWN
        raise DataError("\n".join([*self._shown, *([f"and {more} more faulty rows"] if more > 0 else [])]))


def kind_of(value: Any) -> str:
    """Return what a value of JSON is called."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")
