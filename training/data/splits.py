"""Split rows into train, validation and test by a hash of the prompt.

A row's split is a pure function of its prompt: it stays where it is when rows are added, and rows with the
same prompt (up to case and white space) stay together, so that nothing of the test is trained on.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.rows import DataError, Example

MIN_TEST_ROWS = 5


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the splits (between 0 and 1; training gets the rest) and the most rows of each."""

    validation: float = 0.05
    test: float = 0.2
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
class Splits:
    """The rows of each split, in the order of their hashes."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def counts(self) -> dict[str, int]:
        """Return the number of rows by split."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def position(key: str) -> float:
    """Return where a prompt falls in [0, 1): SHA-256 of its normal form."""
    normal = " ".join(unicodedata.normalize("NFKC", key).casefold().split())
    return int.from_bytes(hashlib.sha256(normal.encode()).digest()[:8], "big") / 2**64


def split(examples: Sequence[Example], shares: Shares) -> Splits:
    """Split the rows. In validation and test, a prompt that occurs often counts once.

    Raises:
        DataError: too few rows are left to train or to judge.
    """
    placed = sorted(((position(example.key), example) for example in examples), key=lambda pair: pair[0])
    edge = shares.test + shares.validation
    test = _once([pair for pair in placed if pair[0] < shares.test])[: shares.max_test]
    validation = _once([pair for pair in placed if shares.test <= pair[0] < edge])[: shares.max_validation]
    train = tuple(example for place, example in placed if place >= edge)[: shares.max_train]
    if not train or len(test) < MIN_TEST_ROWS:
        raise DataError(
            f"{len(examples)} rows leave {len(train)} to train and {len(test)} distinct ones to test; "
            f"at least 1 and {MIN_TEST_ROWS} are needed: add rows, or raise --test-share"
        )
    return Splits(train, validation, test)


def _once(placed: Sequence[tuple[float, Example]]) -> tuple[Example, ...]:
    first: dict[float, Example] = {}
    for place, example in placed:
        first.setdefault(place, example)
    return tuple(first.values())
