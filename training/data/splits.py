"""Split rows into train, validation and test by a hash, so that each stays where it is.

A row's place is a number in [0, 1): the SHA-256 of its prompt in normal form; of a cluster of near
duplicates that of one of its rows, the one with the smallest of another hash; of a group (any column) that of
the group's name. Test is what lies lowest, then validation, then train. So, in whatever order rows stand:

- a row that nothing new is similar to stays where it is, as does every row where a group column is given;
- a cluster of n rows that one more row joins moves with a chance of 1 in n + 1, to the place of that row;
- clusters that a new row connects all move to the place of one of them, or to that row's.

(The first row's place would depend on the order, and the lowest or highest one's would put clusters into test
or into train the more, the larger they are.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar

from training.data.normalise import normal_form
from training.data.rows import DataError, Example, Row

MIN_TEST_ROWS = 5
RowT = TypeVar("RowT", bound=Row, default=Example)


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the splits (between 0 and 1; training gets the rest) and the most rows of each."""

    validation: float = 0.1
    test: float = 0.1
    max_train: int | None = None
    max_validation: int = 64
    max_test: int = 400

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if not (0 <= self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            raise ValueError(
                f"--validation-share {self.validation} and --test-share {self.test} leave no rows to train on"
            )
        for option, value in (("--limit", self.max_train), ("--max-test-rows", self.max_test)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}, and must be at least 1")


@dataclass(frozen=True, slots=True)
class Splits(Generic[RowT]):
    """The rows of each split, in the order of their places."""

    train: tuple[RowT, ...]
    validation: tuple[RowT, ...]
    test: tuple[RowT, ...]

    def counts(self) -> dict[str, int]:
        """Return the number of rows by split."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def position(key: str) -> float:
    """Return where a prompt or a group falls in [0, 1): SHA-256 of its normal form."""
    return int.from_bytes(hashlib.sha256(normal_form(key).encode()).digest()[:8], "big") / 2**64


def positions(
    rows: Sequence[Row], *, clusters: Sequence[int] | None = None, group: str | None = None
) -> list[float]:
    """Return each row's place. `clusters` has for each row the number of its cluster, `group` is a column.

    Raises:
        DataError: a row has no such column.
    """
    if group is not None:
        return [position(_group(row, group)) for row in rows]
    own = [position(row.key) for row in rows]
    if clusters is None:
        return own
    speakers: dict[int, tuple[bytes, float]] = {}
    for cluster, place, row in zip(clusters, own, rows, strict=True):
        mine = (hashlib.sha256(b"cluster\0" + normal_form(row.key).encode()).digest(), place)
        speakers[cluster] = min(mine, speakers.get(cluster, mine))
    return [speakers[cluster][1] for cluster in clusters]


def split(
    rows: Sequence[RowT],
    shares: Shares,
    *,
    clusters: Sequence[int] | None = None,
    group: str | None = None,
) -> Splits[RowT]:
    """Split the rows. In validation and test, a prompt that occurs often counts once.

    Raises:
        DataError: too few rows are left to train or to judge, or a row lacks the group's column.
    """
    where = positions(rows, clusters=clusters, group=group)
    own = [position(row.key) for row in rows]
    placed = sorted(zip(where, own, rows, strict=True), key=lambda each: each[:2])
    edge = shares.test + shares.validation
    test = _once([(key, row) for place, key, row in placed if place < shares.test])[: shares.max_test]
    validation = _once([(key, row) for place, key, row in placed if shares.test <= place < edge])
    train = tuple(row for place, _, row in placed if place >= edge)[: shares.max_train]
    if not train or len(test) < MIN_TEST_ROWS:
        raise DataError(
            f"{len(rows)} rows leave {len(train)} to train and {len(test)} distinct ones to test; "
            f"at least 1 and {MIN_TEST_ROWS} are needed: add rows, or raise --test-share"
            + (f", or choose a column with more groups than {group!r}" if group else "")
        )
    return Splits(train, validation[: shares.max_validation], test)


def _group(row: Row, column: str) -> str:
    if column not in row.columns:
        there = ", ".join(map(repr, row.columns)) or "no further field"
        raise DataError(f"line {row.line}: --group {column!r} is missing; the row has {there}")
    return row.columns[column]


def _once(placed: Sequence[tuple[float, RowT]]) -> tuple[RowT, ...]:
    first: dict[float, RowT] = {}
    for key, row in placed:
        first.setdefault(key, row)
    return tuple(first.values())
