"""Tests of paired differences, and what to do about many of them at once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.figures import Array, Figure
from training.evaluation.resampling import Resampling

PERMUTATIONS = 4999


@dataclass(frozen=True, slots=True)
class Discordance:
    """On how many of `rows` only the first system was right, and on how many only the second."""

    rows: int
    first_only: int
    second_only: int

    @property
    def share(self) -> float:
        """The share of rows on which the two differ."""
        return (self.first_only + self.second_only) / self.rows

    @property
    def smoothed(self) -> float:
        """The same with one row more that differs, and one that does not: never 0, never 1."""
        return (self.first_only + self.second_only + 1) / (self.rows + 2)


def discordance(first: Figure, second: Figure) -> Discordance:
    """Return on which rows two systems differ.

    Raises:
        ValueError: their rows are not successes and failures, or not equally many.
    """
    if not (first.binary and second.binary) or len(first.table) != len(second.table):
        raise ValueError(f"{first.metric} is not a success or a failure on each of the same rows")
    gap = first.table[:, 0] - second.table[:, 0]
    return Discordance(len(gap), int((gap > 0).sum()), int((gap < 0).sum()))


def mcnemar(found: Discordance) -> float:
    """Return the two-sided p-value that neither system is right more often than the other: the exact test.

    McNemar, Psychometrika 12, 1947, with the binomial distribution in place of chi-squared: valid at any
    number of rows, and a little conservative.
    """
    differing = found.first_only + found.second_only
    if not differing:
        return 1.0
    fewer = min(found.first_only, found.second_only)
    chances, term = 0, 1
    for count in range(fewer + 1):
        chances += term
        term = term * (differing - count) // (count + 1)
    # Whole numbers up to here: 2 to the power of the rows is no float.
    return min(1.0, float(2 * chances / 2**differing))


def sign_flip(
    first: Figure, second: Figure, resampling: Resampling, *, permutations: int = PERMUTATIONS
) -> float:
    """Return the two-sided p-value that it makes no difference which system gave which answers.

    In each permutation the two systems are swapped on a random half of the units (approximate randomisation:
    Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989; Yeh, COLING 2000). The observed order
    counts as one of them, so that the test is valid (Phipson and Smyth, 2010).

    Raises:
        ValueError: the systems have not equally many rows.
    """
    ours, theirs = resampling.by_unit(first.table), resampling.by_unit(second.table)
    whole, apart = ours.sum(axis=0) + theirs.sum(axis=0), ours - theirs
    observed = abs(first.value - second.value)
    reached = 0
    for signs in resampling.signs(permutations):
        moved: Array = signs @ apart
        gaps = first.finish((whole + moved) / 2) - first.finish((whole - moved) / 2)
        reached += int((np.abs(gaps) >= observed - 1e-12).sum())
    return (1 + reached) / (1 + permutations)


def p_value(first: Figure, second: Figure, resampling: Resampling) -> float:
    """Return the p-value of a paired difference: exact where rows are single successes and failures."""
    if first.binary and second.binary and resampling.units == resampling.rows:
        return mcnemar(discordance(first, second))
    return sign_flip(first, second, resampling)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for there being so many (Holm, Scand J Statist 6, 1979).

    However they depend on each other, some true null hypothesis falls below alpha with probability alpha at
    most.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
