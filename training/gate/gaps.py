"""One paired comparison in numbers: the difference, its interval, p-values, and the rows it takes. Pure."""

import math
from dataclasses import dataclass

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
    others BCa intervals and permutations over whole units.

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
        interval = difference(ours, theirs, resampling, level=level)
        p_better, p_worse = _sides(sign_flip(ours, theirs, resampling), interval.value)
    differing = None if found is None else found.smoothed
    return Gap(resampling.rows, resampling.units, interval, p_better, p_worse, differing, design, error)


def need_not_worse(gap: Gap, margin: float, *, power: float) -> int:
    """Return the rows like these that prove an equal system not worse by `margin`, with `power`.

    It goes by how often the two differ, not by who wins: to look at that first spoils no test (Gould,
    Statistics in Medicine 20, 2001, on re-estimating a sample size without unblinding).
    """
    if gap.differing is None:
        return rows_for_error(gap.error, gap.rows, margin, alpha=2 * ALPHA, power=power)
    return math.ceil(gap.design * rows_for_non_inferiority(gap.differing, margin, alpha=ALPHA, power=power))


def need_better(gap: Gap, gain: float, *, power: float) -> int:
    """Return the rows like these that prove a system better that is better by `gain`, with `power`."""
    if gap.differing is None:
        return rows_for_error(gap.error, gap.rows, gain, alpha=2 * ALPHA, power=power)
    return math.ceil(gap.design * rows_for_difference(gap.differing, gain, alpha=2 * ALPHA, power=power))


def _exact(first_only: int, second_only: int) -> tuple[float, float]:
    """Return the one-sided exact p-values (binomial on the rows that differ) for better and for worse."""
    differing = first_only + second_only
    return _tail(first_only, differing), _tail(second_only, differing)


def _tail(hits: int, trials: int) -> float:
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
