"""Exact permutation tests of two samples, and Holm's correction over a family of them.

A permutation p-value holds its level when the rows of both samples are exchangeable: independent draws of
one population are, rows of one session or of a trend over time are not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
PERMUTATIONS = 1999
SEED = 2010  # fixed: the same rows always get the same verdict
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class TwoSampleResult:
    """A statistic, its permutation p-value, and an effect size that does not grow with the rows."""

    statistic: float
    p_value: float
    effect: float


def p_value(at_least_as_extreme: int, permutations: int) -> float:
    """Return (b + 1) / (m + 1): exact, and never zero (Phipson & Smyth 2010)."""
    return (at_least_as_extreme + 1) / (permutations + 1)


def labellings(first: int, second: int, *, permutations: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Yield random labellings in blocks of shape (block, first + second); True marks the first sample."""
    generator = np.random.default_rng(seed)
    size = first + second
    labels = np.arange(size) < first
    block = max(1, min(permutations, _CELLS_AT_ONCE // size))
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        yield generator.permuted(np.broadcast_to(labels, (rows, size)), axis=1)


def kolmogorov_smirnov(
    reference: FloatArray, current: FloatArray, *, permutations: int = PERMUTATIONS, seed: int = SEED
) -> TwoSampleResult:
    """Compare two samples of numbers by the largest gap between their distribution functions.

    Statistic and effect are that gap, D, between 0 (same) and 1 (no overlap). Ties are handled exactly: the
    gap is taken after each distinct value, in whole numbers.

    Raises:
        ValueError: a sample is empty or holds a value that is not finite.
    """
    first, second = len(reference), len(current)
    pooled = np.concatenate([reference, current])
    if first == 0 or second == 0 or not np.isfinite(pooled).all():
        raise ValueError("both samples need at least one value, and finite ones only")
    order = np.argsort(pooled, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(pooled[order]) != 0, True))

    def gaps(labels: NDArray[np.bool_]) -> NDArray[np.int64]:
        weights = np.where(labels, second, -first).astype(np.int64)
        largest: NDArray[np.int64] = np.abs(np.cumsum(weights, axis=1)[:, ends]).max(axis=1)
        return largest

    observed = int(gaps((order < first)[None, :])[0])
    extreme = 0
    for labels in labellings(first, second, permutations=permutations, seed=seed):
        extreme += int((gaps(labels) >= observed).sum())
    gap = observed / (first * second)
    return TwoSampleResult(statistic=gap, p_value=p_value(extreme, permutations), effect=gap)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values so that the chance of one false alarm or more stays below the level (Holm 1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
