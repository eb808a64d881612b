"""How many rows a comparison takes: two systems, the same rows. Pure."""

import math
from statistics import NormalDist
from typing import Literal

MARGIN = 0.05
"""Five points: the smallest difference that is worth finding, unless somebody says otherwise."""

ALPHA = 0.05
POWER = 0.8
_NORMAL = NormalDist()

Verdict = Literal["better", "worse", "equal", "cannot tell"]


def rows_for_difference(
    discordance: float, margin: float = MARGIN, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Return the rows that find a difference of `margin` between two shares of right answers, two-sided.

    `discordance` is the share of rows on which one system is right and the other wrong. Connor, Sample Size
    for Testing Differences in Proportions for the Paired-Sample Design, Biometrics 43, 1987:
    n = (z sqrt(d) + w sqrt(d - m²))² / m², with z and w the normal quantiles of 1 - alpha/2 and of the power.

    Raises:
        ValueError: a share is out of its range.
    """
    _check(margin, alpha, power)
    if not 0 <= discordance <= 1:
        raise ValueError(f"a discordance of {discordance} is no share")
    # A difference of five points takes at least five in a hundred rows.
    differing = max(discordance, margin)
    wanted, found = _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)
    root = wanted * math.sqrt(differing) + found * math.sqrt(max(0.0, differing - margin**2))
    return math.ceil((root / margin) ** 2)


def rows_for_non_inferiority(
    discordance: float, margin: float = MARGIN, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Return the rows that prove an equal system not worse by `margin`, one-sided: n = (z + w)² d / m².

    Liu, Hsueh, Hsieh and Chen, Tests for Equivalence or Non-inferiority for Paired Binary Data, Statistics in
    Medicine 21, 2002, for a true difference of 0.

    Raises:
        ValueError: a share is out of its range.
    """
    _check(margin, alpha, power)
    if not 0 <= discordance <= 1:
        raise ValueError(f"a discordance of {discordance} is no share")
    both = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    return max(1, math.ceil(both**2 * discordance / margin**2))


def rows_for_error(
    error: float, rows: int, margin: float = MARGIN, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Return the rows that find a difference of `margin`, two-sided, in any figure.

    `error` is the standard error of the difference on `rows` rows: it falls with the root of the rows, and
    has clusters in it where it was computed over clusters. n = rows ((z + w) error / m)².

    Raises:
        ValueError: a number is out of its range.
    """
    _check(margin, alpha, power)
    if error < 0 or rows < 1:
        raise ValueError(f"a standard error of {error} on {rows} rows can't be planned with")
    both = _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
    return max(1, math.ceil(rows * (both * error / margin) ** 2))


def verdict(low: float, high: float, *, better: str | None, margin: float | None) -> Verdict:
    """Say what an interval of a difference means. `better` is `higher`, `lower` or None.

    `equal` is a difference that may be 0 and is certainly within the margin. Without a direction nothing is
    better or worse.
    """
    if low > 0 or high < 0:
        return "cannot tell" if better is None else _direction(low > 0, better)
    return "equal" if margin is not None and -margin < low and high < margin else "cannot tell"


def _direction(above: bool, better: str) -> Verdict:
    return "better" if above == (better == "higher") else "worse"


def _check(margin: float, alpha: float, power: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"a margin of {margin} is not between 0 and 1")
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha {alpha} and power {power} must be between 0 and 1")
