"""The score interval of a difference between two shares on the same rows (Tango, 1998). Pure.

T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
design, Statistics in Medicine 17, 1998. The score test of "the difference is d" replaces the chance of a
discordant pair by its estimate under that very hypothesis, so that it stays near its level where few rows
differ, and at none (Newcombe, Statistics in Medicine 17, 1998, compares ten such intervals; Liu, Hsueh, Hsieh
and Chen, Statistics in Medicine 21, 2002, recommend it for non-inferiority). At d = 0 it is McNemar's test
without continuity correction.
"""

import math
from statistics import NormalDist

from training.evaluation.paired import Discordance
from training.evaluation.resampling import Interval

_NORMAL = NormalDist()
_STEPS = 60
"""Halvings of an interval of length 1: beyond what a float can tell apart."""


def statistic(found: Discordance, apart: float) -> float:
    """Return the score statistic of "the first share minus the second is `apart`"; standard normal if so.

    Raises:
        ValueError: `apart` is not between -1 and 1.
    """
    if not -1 < apart < 1:
        raise ValueError(f"a difference of {apart} between two shares is not between -1 and 1")
    gap = found.first_only - found.second_only
    above = gap - found.rows * apart
    spread = found.rows * (2 * _second_only(found, apart) + apart * (1 - apart))
    if spread <= 0:
        # No row differs and none should: the data are what the hypothesis says.
        return 0.0 if above == 0 else math.copysign(math.inf, above)
    return above / math.sqrt(spread)


def score_interval(found: Discordance, *, level: float) -> Interval:
    """Return the difference of the two shares with the interval of all differences that are not rejected.

    Each end is a one-sided test at (1 - level) / 2.

    Raises:
        ValueError: there are no rows.
    """
    if found.rows < 1:
        raise ValueError("there are no rows to judge by")
    value = (found.first_only - found.second_only) / found.rows
    edge = _NORMAL.inv_cdf((1 + level) / 2)
    return Interval(value, _end(found, value, -1.0, edge), _end(found, value, 1.0, -edge))


def one_sided(found: Discordance, apart: float) -> float:
    """Return the p-value of "the difference is `apart` or less" against "it is more"."""
    return 1 - _NORMAL.cdf(statistic(found, apart))


def _end(found: Discordance, value: float, far: float, edge: float) -> float:
    """Return where the statistic is `edge` between the estimate (0 there) and `far`: it falls as d grows."""
    near = value
    for _ in range(_STEPS):
        middle = (near + far) / 2
        if not -1 < middle < 1:
            return far
        inside = abs(statistic(found, middle)) <= abs(edge)
        near, far = (middle, far) if inside else (near, middle)
    return near


def _second_only(found: Discordance, apart: float) -> float:
    """Return the likeliest chance that only the second is right, given the difference."""
    rows, first, second = found.rows, found.first_only, found.second_only
    linear = -first - second + (2 * rows - first + second) * apart
    constant = -second * apart * (1 - apart)
    root = math.sqrt(max(0.0, linear**2 - 8 * rows * constant))
    return max(0.0, (root - linear) / (4 * rows))
