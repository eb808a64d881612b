"""How often the reference falls into a region of inputs, and up to where that is no drift.

A region is a set of rows, chosen without the rows it is measured on. Its *level* is how often traffic like
the reference falls into it. What a detector bets against is a bound above it, made of three parts:

- the share found in the reference's level rows,
- what that share may be too low by, since the reference is finite: the exact binomial bound (Clopper and
  Pearson 1934), which fails with a chance that the caller pays for once,
- the tolerance: how much days of the reference differ from each other beyond chance (DerSimonian and Laird
  1986), and the parts of a day where they surely do, a number of standard deviations of both. It is no bound
  but an estimate, so all rows of the reference serve it, those that drew the regions too.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, chdtri

from monitoring.detector.sample import DAY_S, FloatArray, days_of

NO_BOUND = 1 - 1e-6  # nothing is ever beyond it
_HALVINGS = 26
BLOCK_ROWS = 40
PARTS = 8  # of a day, of three hours each
_PARTS_CHANCE = 0.01  # that parts of a day that are alike pass for different, in a region


@dataclass(frozen=True, slots=True)
class Levels:
    """Of each region: the share found, and the bound up to which a share is no drift."""

    found: FloatArray
    bound: FloatArray


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """The reference's rows, oldest first: which are level rows, where each day begins, and the hours.

    `parts` is the part of the day of each row, from 0 to `PARTS` - 1 in UTC. `design_effect` is by how much
    rows that follow each other resemble each other: this many of them say as much as one (1 where they are
    independent).
    """

    level: NDArray[np.bool_]
    starts: NDArray[np.int64]
    parts: NDArray[np.uint8]
    design_effect: float = 1.0

    @classmethod
    def at(cls, level: NDArray[np.bool_], at: FloatArray, design_effect: float = 1.0) -> Self:
        """Return rows of these times, in seconds since the epoch, oldest first."""
        return cls(level, day_starts(at), parts_of(at), design_effect)

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
    apart = day_tolerance * np.hypot(day_deviation(inside, rows), part_deviation(inside, rows))
    return Levels(found, np.minimum(upper + np.maximum(apart, tolerance), NO_BOUND))


def day_deviation(inside: NDArray[np.bool_], rows: ReferenceRows) -> FloatArray:
    """Return the standard deviation of regions' shares between days, beyond chance."""
    inside_by_day = np.add.reduceat(inside.astype(np.float64), rows.starts, axis=0)
    return _between(inside_by_day, rows.day_rows, _variance(inside, rows))


def part_deviation(inside: NDArray[np.bool_], rows: ReferenceRows) -> FloatArray:
    """Return the standard deviation of regions' shares between parts of the day, all days together.

    0 in regions where the parts could as well be alike: a guess at differences that are none would hide
    shifts, and those that are too small to be sure of raise no alarm either.
    """
    inside_by_part = np.stack([inside[rows.parts == part].sum(axis=0) for part in range(PARTS)])
    part_rows = np.bincount(rows.parts, minlength=PARTS).astype(np.float64)
    there = part_rows > 0
    return _between(
        inside_by_part[there].astype(np.float64), part_rows[there], _variance(inside, rows), surely=True
    )


def mean_deviation(values: FloatArray, at: FloatArray) -> float:
    """Return the standard deviation of a mean between days and parts of the day, beyond chance.

    `values` and the time of each, in seconds since the epoch, have shape (rows,). What chance makes is the
    variance within days, pooled over them; 0 where there is only one day.
    """
    _, day = np.unique(days_of(at), return_inverse=True)
    weights = np.bincount(day).astype(np.float64)
    if len(weights) < 2 or len(values) <= len(weights):
        return 0.0
    totals = np.bincount(day, weights=values).astype(np.float64)
    within = float(((values - (totals / weights)[day]) ** 2).sum()) / (len(values) - len(weights))
    chance = np.array([max(within, 1e-12)])
    _, part = np.unique(parts_of(at), return_inverse=True)
    between_days = _between(totals[:, None], weights, chance)
    part_totals = np.bincount(part, weights=values).astype(np.float64)
    part_rows = np.bincount(part).astype(np.float64)
    between_parts = _between(part_totals[:, None], part_rows, chance, surely=True)
    return float(np.hypot(between_days, between_parts)[0])


def _variance(inside: NDArray[np.bool_], rows: ReferenceRows) -> FloatArray:
    """Return the variance of whether a row is inside, as large as rows that resemble each other make it."""
    found = inside.mean(axis=0, dtype=np.float64)
    result: FloatArray = np.maximum(found * (1 - found), 1e-12) * rows.design_effect
    return result


def _between(
    totals: FloatArray, weights: FloatArray, chance: FloatArray, *, surely: bool = False
) -> FloatArray:
    """Return the standard deviation of means between groups beyond chance (DerSimonian and Laird 1986).

    `totals` has shape (groups, columns), `weights` are the groups' rows, `chance` is the variance of a row
    within a group, by column. With `surely` it is 0 where Cochran's test does not tell the groups apart.
    """
    freedom = len(weights) - 1
    if freedom < 1:
        return np.zeros(totals.shape[1])
    mean = totals.sum(axis=0) / weights.sum()
    spread = (weights[:, None] * (totals / weights[:, None] - mean) ** 2).sum(axis=0) / chance
    effective = weights.sum() - (weights**2).sum() / weights.sum()
    least = float(chdtri(freedom, _PARTS_CHANCE)) if surely else float(freedom)
    variance = np.where(spread > least, chance * (spread - freedom) / effective, 0.0)
    result: FloatArray = np.sqrt(variance)
    return result


def day_starts(at: FloatArray) -> NDArray[np.int64]:
    """Return the places at which a day begins, of times that rise."""
    return np.flatnonzero(np.append(True, np.diff(days_of(at)) != 0)).astype(np.int64)


def parts_of(at: FloatArray) -> NDArray[np.uint8]:
    """Return the part of the day of each time, in UTC."""
    return (at % DAY_S // (DAY_S / PARTS)).astype(np.uint8)


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
