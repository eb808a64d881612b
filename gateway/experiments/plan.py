"""What an experiment can find at the present traffic, and how long that takes.

The power formula of the comparison's own test: after n units with the candidate's chance q the sum of steps
has information v = n q (1 - q), mean v * difference and variance v * s^2, where s^2 is the variance of a
unit's value. It has passed the boundary (gateway.experiments.wealth) by then with probability `power` when

    v * difference >= boundary(v s^2) + z(power) * s * sqrt(v).
"""

from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist

from gateway.experiments.compare import WORST_VARIANCE
from gateway.experiments.wealth import boundary

_MOST_UNITS = 1 << 34


@dataclass(frozen=True, slots=True)
class Plan:
    """How long it takes to find `difference`, and what can be found in `within_days` from the start.

    `units` are those of both arms from the start, `days` from now on; both None where no traffic is enough.
    """

    difference: float
    units: int | None
    days: float | None
    within_days: float
    detectable: float


def plan(
    difference: float,
    *,
    share: float,
    units_per_day: float,
    window_days: float,
    alpha: float,
    within_days: float = 14.0,
    information: float = 0.0,
    variance: float = WORST_VARIANCE,
    power: float = 0.8,
) -> Plan:
    """Return the plan for finding `difference` with units that close `window_days` after their exposure.

    `share` is the candidate's among the two arms, `units_per_day` counts both, `alpha` is two-sided.
    `information` and `variance` are those of the `Difference` so far.
    """
    units = units_needed(difference, share=share, alpha=alpha, variance=variance, power=power)
    days = None
    if units is not None and units_per_day > 0:
        left = max(0.0, units - information / (share * (1 - share)))
        days = left / units_per_day + (0.0 if information else window_days)
    closed = int(units_per_day * max(0.0, within_days - window_days))
    return Plan(
        difference=difference,
        units=units,
        days=days,
        within_days=within_days,
        detectable=detectable(closed, share=share, alpha=alpha, variance=variance, power=power),
    )


def detectable(
    units: int, *, share: float, alpha: float, variance: float = WORST_VARIANCE, power: float = 0.8
) -> float:
    """Return the smallest difference that so many units of both arms find with this power; 1 at most."""
    information = units * share * (1 - share)
    if information <= 0:
        return 1.0
    spread = sqrt(information * variance)
    needed = boundary(information * variance, alpha / 2) + NormalDist().inv_cdf(power) * spread
    return min(1.0, needed / information)


def units_needed(
    difference: float, *, share: float, alpha: float, variance: float = WORST_VARIANCE, power: float = 0.8
) -> int | None:
    """Return how many units of both arms find `difference` with this power; None where no number does."""

    def found(units: int) -> bool:
        return detectable(units, share=share, alpha=alpha, variance=variance, power=power) <= difference

    if not 0 < share < 1 or not found(_MOST_UNITS):
        return None
    low, high = 0, _MOST_UNITS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def fixed_horizon_units(
    difference: float, *, share: float, alpha: float, variance: float = WORST_VARIANCE, power: float = 0.8
) -> float:
    """Return how many units a test needs that looks only once, at the end: the measure of sequential ones."""
    if difference <= 0 or not 0 < share < 1:
        return inf
    z = NormalDist().inv_cdf
    return ceil((z(1 - alpha / 2) + z(power)) ** 2 * variance / (share * (1 - share) * difference**2))
