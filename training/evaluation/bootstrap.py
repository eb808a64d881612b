"""Intervals by bootstrap over rows, for means and for ratios of sums such as F1.

A system's figure is the sum of its rows' numerators over the sum of their denominators. Rows are drawn with
replacement, the same ones for both systems of a difference (Efron and Tibshirani, 1993, chapter 13).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Counts

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def interval(rows: Sequence[Counts], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Return the figure of one system with its percentile interval.

    Where every row of a mean is 0, or every row is 1, resampling shows no spread at all: the open side of the
    interval is then the exact binomial one (Clopper and Pearson, 1934).

    Raises:
        ValueError: there are no rows.
    """
    top, bottom = _arrays(rows)
    value = _ratio(top.sum(), bottom.sum())
    if np.all(bottom == 1) and (np.all(top == 0) or np.all(top == 1)):
        room = 1 - ((1 - LEVEL) / 2) ** (1 / len(rows))
        return Interval(value, 0.0, room) if value == 0 else Interval(value, 1 - room, 1.0)
    draws = _draws(len(rows), seed, resamples)
    return _interval(value, _ratios(_sums(top, draws), _sums(bottom, draws)))


def paired_difference(
    first: Sequence[Counts], second: Sequence[Counts], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Return the first system's figure minus the second's on the same rows, with its percentile interval.

    Raises:
        ValueError: there are no rows, or not equally many.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} rows can't be paired with {len(second)}")
    (top_a, bottom_a), (top_b, bottom_b) = _arrays(first), _arrays(second)
    value = _ratio(top_a.sum(), bottom_a.sum()) - _ratio(top_b.sum(), bottom_b.sum())
    draws = _draws(len(first), seed, resamples)
    drawn_a = _ratios(_sums(top_a, draws), _sums(bottom_a, draws))
    drawn_b = _ratios(_sums(top_b, draws), _sums(bottom_b, draws))
    return _interval(value, drawn_a - drawn_b)


def _arrays(rows: Sequence[Counts]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not rows:
        raise ValueError("there are no rows to judge by")
    return (
        np.array([row.numerator for row in rows], dtype=np.float64),
        np.array([row.denominator for row in rows], dtype=np.float64),
    )


def _draws(rows: int, seed: int, resamples: int) -> NDArray[np.int64]:
    """Return the rows that are drawn, one resample a line."""
    return np.random.default_rng(seed).integers(0, rows, size=(resamples, rows))


def _sums(values: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = values[draws].sum(axis=1)
    return sums


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else 0.0


def _ratios(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
