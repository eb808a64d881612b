"""Quantiles and medians of what was measured. Pure."""

import statistics
from collections.abc import Sequence
from typing import TypeVar

Number = TypeVar("Number", int, float)


def quantile(ascending: Sequence[Number], share: float) -> Number:
    """Return the smallest value that at least `share` of the values do not exceed; 0 without values."""
    if not ascending:
        return 0
    rank = max(0, min(len(ascending) - 1, -int(-share * len(ascending) // 1) - 1))
    return ascending[rank]


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that there are; None when there is none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
