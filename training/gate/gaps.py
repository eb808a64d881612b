"""One paired comparison in numbers: the difference, its interval, p-values, and the rows it takes. Pure."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from training.evaluation.figures import Figure
from training.evaluation.paired import discordance, sign_flip
from training.evaluation.power import rows_for_difference, rows_for_error, rows_for_non_inferiority
from training.evaluation.resampling import Interval, Resampling, difference, standard_error
from training.gate.tango import score_interval

ALPHA = 0.05
"""One-sided, for every single test. Intervals are therefore at 1 - 2 ALPHA: their ends are these tests."""

LEVEL = 1 - 2 * ALPHA
MIN_UNITS = 30
"""With fewer independent units (subjects, or rows) nothing is proved: resampling whole ones is too coarse."""

RANGE = 1.0
"""Every metric of the gate is between 0 and 1: so far can two versions be apart on a row or a subject."""

_THREE = -math.log(ALPHA)
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Gap:
    """The candidate minus another system on the same rows.

    `units` are what was drawn independently: subjects, or rows. `p_better` and `p_worse` are one-sided
    p-values of "not better" and "not worse". `differing` is the share of rows on which the two differ
    (binary figures only), `design` how many times the variance of independent rows this is (clusters), and
    `error` the standard error.
    """

    rows: int
    units: int
    interval: Interval
    p_better: float
    p_worse: float
    differing: float | None
    design: float
    error: float

    @property
    def better(self) -> bool:
        """Whether it is certain that the candidate is better: test and interval both say so."""
        return self.p_better <= ALPHA and self.interval.low > 0

    @property
    def worse(self) -> bool:
        """Whether it is certain that the candidate is worse."""
        return self.p_worse <= ALPHA and self.interval.high < 0

    def within(self, margin: float) -> bool:
        """Whether it is certain that the candidate is worse by less than `margin`: non-inferior."""
        return self.interval.low > -margin


def gap_of(ours: Figure, theirs: Figure, resampling: Resampling, *, level: float = LEVEL) -> Gap:
    """Compare two systems' figures on the same rows.

    Rows that are right or wrong and independent get Tango's score interval and McNemar's exact test; all
    others BCa intervals, with room for units of a kind that was not drawn, and permutations over whole units.

    Raises:
        ValueError: they have not equally many rows, or none.
    """
    alone = resampling.units == resampling.rows
    binary = ours.binary and theirs.binary
    error = standard_error(ours, theirs, resampling)
    design = 1.0
    if binary and not alone:
        plain = standard_error(ours, theirs, Resampling(resampling.rows, seed=0))
        design = max(1.0, (error / plain) ** 2) if plain > 0 else 1.0
    found = discordance(ours, theirs) if binary else None
    if found is not None and alone:
        interval = score_interval(found, level=level)
        p_better, p_worse = _exact(found.first_only, found.second_only)
    else:
        seen = difference(ours, theirs, resampling, level=level)
        interval = _with_room(seen, resampling.units, level=level)
        p_better, p_worse = _sides(sign_flip(ours, theirs, resampling), interval.value)
    differing = None if found is None else found.smoothed
    return Gap(resampling.rows, resampling.units, interval, p_better, p_worse, differing, design, error)


def least_units(margin: float) -> int:
    """Return the units below which not even equal answers to all of them prove "worse by less than `margin`".

    Of a candidate that breaks so large a share of all units, n of them show nothing with a chance of
    (1 - margin)^n. With these it is below ALPHA (the rule of three: Hanley and Lippman-Hand, JAMA 249, 1983).
    """
    return max(MIN_UNITS, math.ceil(_THREE / margin))


def need_not_worse(gap: Gap, margin: float, *, power: float) -> int:
    """Return the rows like these that prove an equal system not worse by `margin`, with `power`.

    It goes by how often the two differ, not by who wins: to look at that first spoils no test (Gould,
    Statistics in Medicine 20, 2001, on re-estimating a sample size without unblinding).
    """
    if gap.differing is None:
        need = rows_for_error(_smoothed(gap), gap.rows, margin, alpha=2 * ALPHA, power=power)
    else:
        rows = rows_for_non_inferiority(gap.differing, margin, alpha=ALPHA, power=power)
        need = math.ceil(gap.design * rows)
    return max(need, _rows_with_room(gap, margin, lost=RANGE, power=power))


def need_better(gap: Gap, gain: float, *, power: float) -> int:
    """Return the rows like these that prove a system better that is better by `gain`, with `power`."""
    if gap.differing is None:
        need = rows_for_error(_smoothed(gap), gap.rows, gain, alpha=2 * ALPHA, power=power)
    else:
        need = math.ceil(gap.design * rows_for_difference(gap.differing, gain, alpha=2 * ALPHA, power=power))
    return max(need, _rows_with_room(gap, gain, lost=RANGE + gain, power=power))


def _smoothed(gap: Gap) -> float:
    """Return the standard error with one unit more that differs by the whole range, and one that does not.

    What `Discordance.smoothed` is for rows that are right or wrong (Agresti and Min, Statistics in Medicine
    24, 2005): never 0, however few units differ. A jackknife's error is that of its pseudo-values, a unit
    each (Efron and Tibshirani, ch. 11): the squares of these add up to `squares`.
    """
    units = gap.units
    squares = units * (units - 1) * gap.error**2
    return max(gap.error, math.sqrt((squares + RANGE**2) / (units + 2) / units))


def _rows_with_room(gap: Gap, far: float, *, lost: float, power: float) -> int:
    """Return the rows on which an interval reaches, for its room alone, less than `far` below the truth.

    With n units the room is _THREE / n at most, of which each loses `lost`; and with `power` the estimate is
    less than a quantile of its own error below the truth. Both together are `far`, solved for n.
    """
    if gap.differing is not None and gap.units == gap.rows:
        return 0  # a score interval has no such room
    spread = _NORMAL.inv_cdf(power) * gap.error * math.sqrt(gap.units)
    root = (spread + math.sqrt(spread**2 + 4 * far * lost * _THREE)) / (2 * far)
    return math.ceil(gap.rows * root**2 / gap.units)


def _with_room(found: Interval, units: int, *, level: float) -> Interval:
    """Return an interval that has room for units unlike any that was drawn.

    Resampling knows only what it has seen: where no unit differs, or all do alike, it shows no spread at all.
    A share of units that is as large as (1 - level) / 2 to the power of 1 / units leaves open may still lose,
    or win, the whole range (Clopper and Pearson, 1934, for no success).
    """
    room = 1 - ((1 - level) / 2) ** (1 / units)
    lowest, highest = found.value - room * (RANGE + found.value), found.value + room * (RANGE - found.value)
    return Interval(found.value, min(found.low, lowest), max(found.high, highest))


def _exact(first_only: int, second_only: int) -> tuple[float, float]:
    """Return the one-sided exact p-values (binomial on the rows that differ) for better and for worse."""
    differing = first_only + second_only
    return sign_test(first_only, differing), sign_test(second_only, differing)


def sign_test(hits: int, trials: int) -> float:
    """Return the chance of `hits` or more heads in `trials` throws of a fair coin."""
    ways, term = 0, 1
    for misses in range(trials - hits + 1):
        ways += term
        term = term * (trials - misses) // (misses + 1)
    # Whole numbers up to here: 2 to the power of the rows is no float.
    return min(1.0, float(ways / 2**trials))


def _sides(two_sided: float, value: float) -> tuple[float, float]:
    """Return the one-sided p-values that a symmetric two-sided one stands for."""
    near, far = two_sided / 2, 1 - two_sided / 2
    if value == 0:
        return 0.5, 0.5
    return (near, far) if value > 0 else (far, near)
