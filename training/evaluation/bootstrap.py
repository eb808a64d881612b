"""Intervals of plain rows: means, and ratios of sums such as F1. The work is done by `resampling`."""

from collections.abc import Sequence

from training.evaluation.figures import counted
from training.evaluation.metrics import Counts
from training.evaluation.resampling import RESAMPLES, Interval, Resampling
from training.evaluation.resampling import difference as difference_of_figures
from training.evaluation.resampling import interval as interval_of_figure

__all__ = ["Interval", "interval", "paired_difference"]


def interval(rows: Sequence[Counts], *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """Return the figure of one system with its 95 % interval.

    Raises:
        ValueError: there are no rows.
    """
    return interval_of_figure(counted("", rows), Resampling(len(rows), seed=seed, resamples=resamples))


def paired_difference(
    first: Sequence[Counts], second: Sequence[Counts], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Return the first system's figure minus the second's on the same rows, with its 95 % interval.

    Raises:
        ValueError: there are no rows, or not equally many.
    """
    draws = Resampling(len(first), seed=seed, resamples=resamples)
    return difference_of_figures(counted("", first), counted("", second), draws)
