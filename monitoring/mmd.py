"""Maximum mean discrepancy of two samples of vectors, with an exact permutation p-value.

Gretton et al., A Kernel Two-Sample Test (JMLR 2012): the unbiased estimate of MMD squared (their lemma 6),
a Gaussian kernel, and as its bandwidth the median distance in the pooled sample. The pooled sample is the
same under every labelling, so choosing the bandwidth from it leaves the p-value exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.permutation import PERMUTATIONS, SEED, FloatArray, labellings, p_value

KernelArray = NDArray[np.float32]
_ROWS_FOR_BANDWIDTH = 2000
# Single precision leaves about this much noise; counting it as a tie errs towards no alarm.
_TIE = 1e-7


@dataclass(frozen=True, slots=True)
class MmdResult:
    """The test's outcome.

    `statistic` is the unbiased MMD squared (it may be below zero), `effect` its root, floored at zero:
    0 for the same population, at most the root of 2. `witness_*` says for each row how much more it
    resembles the reference than the current rows (itself left out); the difference of its means is
    `statistic`.
    """

    statistic: float
    p_value: float
    effect: float
    bandwidth: float
    witness_reference: FloatArray
    witness_current: FloatArray


def mmd_test(
    reference: FloatArray, current: FloatArray, *, permutations: int = PERMUTATIONS, seed: int = SEED
) -> MmdResult:
    """Test whether two samples, of shapes (rows, dimensions), come from one population.

    Takes 4 bytes for every pair of rows of the pooled sample.

    Raises:
        ValueError: a sample has fewer than two rows, or the dimensions differ.
    """
    first, second = len(reference), len(current)
    if min(first, second) < 2 or reference.shape[1] != current.shape[1]:
        raise ValueError("both samples need at least two rows, of the same dimension")
    kernel, bandwidth = _kernel(np.concatenate([reference, current]), seed=seed)
    labels = (np.arange(first + second) < first)[None, :]
    observed = float(_statistics(kernel, labels)[0])
    extreme = 0
    for block in labellings(first, second, permutations=permutations, seed=seed):
        extreme += int((_statistics(kernel, block) >= observed - _TIE).sum())
    to_reference = kernel[:, :first].sum(axis=1, dtype=np.float64)
    to_current = kernel[:, first:].sum(axis=1, dtype=np.float64)
    return MmdResult(
        statistic=observed,
        p_value=p_value(extreme, permutations),
        effect=max(0.0, observed) ** 0.5,
        bandwidth=bandwidth,
        witness_reference=to_reference[:first] / (first - 1) - to_current[:first] / second,
        witness_current=to_reference[first:] / first - to_current[first:] / (second - 1),
    )


def _kernel(pooled: FloatArray, *, seed: int) -> tuple[KernelArray, float]:
    """Return the Gaussian kernel with zeros on its diagonal, less its mean, and its bandwidth.

    A constant taken off every pair leaves the statistic as it is and keeps the sums small, and so precise.
    """
    points = (pooled - pooled.mean(axis=0)).astype(np.float32)
    norms = np.einsum("ij,ij->i", points, points)
    kernel: KernelArray = points @ points.T
    kernel *= -2
    kernel += norms[:, None]
    kernel += norms[None, :]
    np.maximum(kernel, 0, out=kernel)
    bandwidth = _bandwidth(kernel, seed=seed)
    if bandwidth > 0:
        kernel *= np.float32(-0.5 / bandwidth**2)
    np.exp(kernel, out=kernel)
    size = len(kernel)
    kernel -= np.float32((kernel.sum(dtype=np.float64) - np.trace(kernel)) / (size * (size - 1)))
    np.fill_diagonal(kernel, 0)
    return kernel, bandwidth


def _bandwidth(squared_distances: KernelArray, *, seed: int) -> float:
    """Return the median distance of pairs; of the unequal pairs when most are equal; 0 when all are.

    Of many rows a random part is looked at, drawn without regard to the samples.
    """
    size = len(squared_distances)
    if size > _ROWS_FOR_BANDWIDTH:
        some = np.random.default_rng(seed).choice(size, _ROWS_FOR_BANDWIDTH, replace=False)
        squared_distances = squared_distances[np.ix_(some, some)]
    pairs = squared_distances[np.triu_indices(len(squared_distances), k=1)]
    equal_up_to = float(pairs.max()) * 1e-6  # equal rows come out a rounding error apart
    median = float(np.median(pairs))
    if median > equal_up_to:
        return float(median**0.5)
    apart = pairs[pairs > equal_up_to]
    return float(np.median(apart) ** 0.5) if len(apart) else 0.0


def _statistics(kernel: KernelArray, labels: NDArray[np.bool_]) -> FloatArray:
    """Return the unbiased MMD squared of each labelling: rows of `labels`, True for the first sample."""
    first = int(labels[0].sum())
    second = len(kernel) - first
    chosen = labels.T.astype(np.float32)
    row_sums = kernel.sum(axis=1, dtype=np.float64)
    within_first = np.einsum("ij,ij->j", chosen, kernel @ chosen, dtype=np.float64)
    touching_first = chosen.T.astype(np.float64) @ row_sums
    across = touching_first - within_first
    within_second = row_sums.sum() - 2 * touching_first + within_first
    statistics: FloatArray = (
        within_first / (first * (first - 1))
        + within_second / (second * (second - 1))
        - 2 * across / (first * second)
    )
    return statistics
