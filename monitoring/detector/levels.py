"""How often the reference falls into a region of inputs, and up to where that is no drift.

A region is a set of rows, chosen without the rows it is measured on. Its *level* is how often traffic like
the reference falls into it. What a detector bets against is a bound above it, made of three parts:

- the share found in the reference's level rows,
- what that share may be too low by, since the reference is finite: the exact binomial bound (Clopper and
  Pearson 1934), which fails with a chance that the caller pays for once,
- the tolerance: how much days of the reference differ from each other beyond chance (DerSimonian and Laird
  1986), a number of standard deviations of it. It is no bound but an estimate, so all rows of the reference
  serve it, those that drew the regions too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from monitoring.detector.sample import FloatArray

NO_BOUND = 1 - 1e-6  # nothing is ever beyond it
_HALVINGS = 26
BLOCK_ROWS = 40


@dataclass(frozen=True, slots=True)
class Levels:
    """Of each region: the share found, and the bound up to which a share is no drift."""

    found: FloatArray
    bound: FloatArray


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """The reference's rows, oldest first: which are level rows, and where each day begins.

    `design_effect` is by how much rows that follow each other resemble each other: this many of them say as
    much as one (1 where they are independent).
    """

    level: NDArray[np.bool_]
    starts: NDArray[np.int64]
    design_effect: float = 1.0

    @property
    def level_count(self) -> int:
        """How many rows regions are measured on."""
        return int(self.level.sum())

    @property
    def day_rows(self) -> FloatArray:
        """How many rows each day has."""
        return np.diff(np.append(self.starts, len(self.level))).astype(np.float64)


def chernoff_upper(found: FloatArray, rows: float, log_chance: float) -> FloatArray:
    """Return the largest mean under which so low a mean of `rows` values is no rarer than e^-log_chance.

    Where the relative entropy of the mean found to the true one is above log_chance / rows.
    """
    p = np.asarray(found, dtype=np.float64)
    low, high = p.copy(), np.ones_like(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(p > 0, p * np.log(p), 0.0) + np.where(p < 1, (1 - p) * np.log1p(-p), 0.0)
    wanted = log_chance / rows - own
    for _ in range(_HALVINGS):
        middle = np.minimum((low + high) / 2, NO_BOUND)
        beyond = -p * np.log(middle) - (1 - p) * np.log1p(-middle) > wanted
        high = np.where(beyond, middle, high)
        low = np.where(beyond, low, middle)
    return high


def exact_upper(found: FloatArray, rows: float, chance: float | FloatArray) -> FloatArray:
    """Return the largest share under which so few of `rows` rows inside are no rarer than `chance`.

    Clopper and Pearson's upper bound. Where rows resemble each other `rows` is how many independent ones they
    are worth, which need not be whole (Korn and Graubard, Survey Methodology 1998).
    """
    inside = np.asarray(found, dtype=np.float64) * rows
    below = betaincinv(np.maximum(rows - inside, 1e-9), inside + 1, np.asarray(chance))
    result: FloatArray = np.where(inside >= rows, 1.0, 1 - below)
    return result


def levels(
    inside: NDArray[np.bool_],
    rows: ReferenceRows,
    *,
    chance: float | FloatArray,
    day_tolerance: float,
    tolerance: float,
) -> Levels:
    """Return the levels of regions from whether each row is inside: shape (rows, regions)."""
    found = inside[rows.level].mean(axis=0, dtype=np.float64)
    upper = exact_upper(found, rows.level_count / rows.design_effect, chance)
    apart = day_tolerance * day_deviation(inside, rows)
    return Levels(found, np.minimum(upper + np.maximum(apart, tolerance), NO_BOUND))


def day_deviation(inside: NDArray[np.bool_], rows: ReferenceRows) -> FloatArray:
    """Return the standard deviation of regions' shares between days, beyond chance."""
    weights = rows.day_rows
    days = len(weights)
    found = inside.mean(axis=0, dtype=np.float64)
    if days < 2:
        return np.zeros_like(found)
    by_day = np.add.reduceat(inside.astype(np.float64), rows.starts, axis=0) / weights[:, None]
    chance = np.maximum(found * (1 - found), 1e-12) * rows.design_effect
    spread = (weights[:, None] * (by_day - found) ** 2).sum(axis=0) / chance
    effective = weights.sum() - (weights**2).sum() / weights.sum()
    variance = chance * np.maximum(0.0, spread - (days - 1)) / effective
    result: FloatArray = np.sqrt(variance)
    return result


def mean_deviation(values: FloatArray, days: NDArray[np.int64]) -> float:
    """Return the standard deviation of a mean between days, beyond what chance within days makes.

    `values` and the day of each have shape (rows,). The estimate of DerSimonian and Laird (1986) with the
    variance within days pooled over them; 0 where there is only one day.
    """
    _, day = np.unique(days, return_inverse=True)
    weights = np.bincount(day).astype(np.float64)
    if len(weights) < 2 or len(values) <= len(weights):
        return 0.0
    by_day = np.bincount(day, weights=values) / weights
    chance = max(float(((values - by_day[day]) ** 2).sum()) / (len(values) - len(weights)), 1e-12)
    spread = float((weights * (by_day - values.mean()) ** 2).sum()) / chance
    effective = float(weights.sum() - (weights**2).sum() / weights.sum())
    return float(np.sqrt(chance * max(0.0, spread - (len(weights) - 1)) / effective))


def design_effect(inside: NDArray[np.bool_], starts: NDArray[np.int64]) -> float:
    """Return by how much blocks of consecutive rows of a day differ more than independent rows would.

    The ratio of variances, averaged over the regions that have any; 1 or more.
    """
    rows = len(inside)
    ratios: list[FloatArray] = []
    freedoms = 0
    values = inside.astype(np.float64)
    total = np.zeros(inside.shape[1])
    ends = np.append(starts[1:], rows)
    expected = np.zeros(inside.shape[1])
    for start, end in zip(starts, ends, strict=True):
        blocks = (end - start) // BLOCK_ROWS
        if blocks < 2:
            continue
        day = values[start : start + blocks * BLOCK_ROWS]
        mean = day.mean(axis=0)
        by_block = day.reshape(blocks, BLOCK_ROWS, -1).mean(axis=1)
        total += BLOCK_ROWS * ((by_block - mean) ** 2).sum(axis=0)
        expected += (blocks - 1) * mean * (1 - mean) * len(day) / (len(day) - 1)
        freedoms += blocks - 1
    usable = expected > 0.01 * max(1, freedoms)
    if usable.any():
        ratios.append(total[usable] / expected[usable])
    return max(1.0, float(np.mean(ratios))) if ratios else 1.0
