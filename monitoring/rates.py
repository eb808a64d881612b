"""Intervals for rates and means, and for their differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float) -> Estimate:
    """Return a rate with Wilson's score interval (1927). `n` must be positive."""
    z = _z(confidence)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half))


def newcombe(first: Estimate, second: Estimate) -> Estimate:
    """Return second - first with Newcombe's hybrid score interval (1998, method 10), from Wilson's two."""
    difference = second.value - first.value
    below = ((second.value - second.low) ** 2 + (first.high - first.value) ** 2) ** 0.5
    above = ((second.high - second.value) ** 2 + (first.value - first.low) ** 2) ** 0.5
    return Estimate(difference, difference - below, difference + above)


def mean(values: Sequence[float], *, confidence: float) -> Estimate:
    """Return a mean with its normal interval; good from about 30 values on. Two values at least."""
    centre = fmean(values)
    half = _z(confidence) * (variance(values) / len(values)) ** 0.5
    return Estimate(centre, centre - half, centre + half)


def difference_of_means(first: Sequence[float], second: Sequence[float], *, confidence: float) -> Estimate:
    """Return mean(second) - mean(first) with a normal interval that allows unequal variances."""
    difference = fmean(second) - fmean(first)
    half = _z(confidence) * (variance(first) / len(first) + variance(second) / len(second)) ** 0.5
    return Estimate(difference, difference - half, difference + half)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
