"""How the rows of an example are split: what it is judged by says nearly nothing that it was trained on."""

from collections.abc import Sequence
from dataclasses import replace

from training.data.duplicates import across
from training.data.rows import Row
from training.data.splits import Shares, Splits, split


def apart(rows: Sequence[Row], shares: Shares) -> Splits[Row]:
    """Split the rows, without held-out rows that are near duplicates of others; later ones take their places.

    Training and validation rows are those of a plain split. Contracts repeat each other's sentences, and
    headlines their series.

    Raises:
        DataError: too few rows are left to train or to judge.
        DuplicatesUnavailable: `datasketch` is not installed.
    """
    wide: Splits[Row] = split(rows, replace(shares, max_test=len(rows)))
    known = [row.key for row in (*wide.train, *wide.validation)]
    near = across([row.key for row in wide.test], known)
    test = tuple(row for place, row in enumerate(wide.test) if place not in near)
    return replace(wide, test=test[: shares.max_test])
