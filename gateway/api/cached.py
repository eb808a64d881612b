"""Rows of the store that `/metrics` shows: read now and then, and never by two scrapes at once."""

import time
from collections.abc import Iterable
from typing import Generic, TypeVar

Row = TypeVar("Row")


class CachedRows(Generic[Row]):
    """The rows as they were read at most `every_s` seconds ago."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._read_at = float("-inf")
        self.rows: tuple[Row, ...] = ()

    def stale(self) -> bool:
        """Whether it is time to read again."""
        return time.monotonic() - self._read_at > self._every_s

    def put(self, rows: Iterable[Row] | None) -> None:
        """Take what was read; None keeps the old rows and waits the interval all the same."""
        self._read_at = time.monotonic()
        if rows is not None:
            self.rows = tuple(rows)
