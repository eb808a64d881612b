"""A bound on a running sum of means that holds at every moment: mixed bets on bounded steps.

Let z_1, z_2, ... have conditional means mu_t given the past, and |z_t| <= 1. For every fixed bet b in (0, 1),
E[1 + b z_t] = 1 + b mu_t <= exp(b mu_t), so

    prod_t (1 + b z_t) * exp(-b * sum_t mu_t)

is a non-negative supermartingale that starts at 1, and so is any average of it over bets. By Ville's
inequality the average passes 1/alpha, ever, with probability at most alpha. The sums x of means that keep it
below 1/alpha are hence an interval [low, infinity) that holds for all t at once. No mean has to be constant.

It is the product behind the empirical-Bernstein sequences of Howard, Ramdas, McAuliffe and Sekhon (2021,
theorem 4) and Waudby-Smith and Ramdas (2024, theorem 2) before Fan's inequality puts a square in place of the
logarithm, with 0 as the guess of z; averaging over bets is the method of mixtures.
"""

from collections.abc import Sequence
from math import exp, log, log1p, sqrt

# Log-spaced from 0.005 to 0.88: the best bet is about difference / variance, and to miss it by a factor of
# 1.3 costs little. Weights grow with the root of the bet, since harm that is large has to be found soonest. A
# difference takes 1.3 to 2 times the units that the best single bet would take, from the largest to the
# smallest bet; equal weights take 1.5 times everywhere (docs/decisions/0012).
_BETS = tuple(0.005 * 1.6**k for k in range(12))
_LOG_WEIGHTS = tuple(log(bet) / 2 - log(sum(map(sqrt, _BETS))) for bet in _BETS)
_ROUNDS = 40
_CLOSE = 1e-9


class Wealth:
    """Bets that the sum of the steps' means is large."""

    __slots__ = ("_logs",)

    def __init__(self) -> None:
        self._logs = [0.0] * len(_BETS)

    def add(self, step: float) -> None:
        """Count a step, between -1 and 1.

        Written out: a loop takes as long as the logarithms, and large experiments have a million steps.
        """
        b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11 = _BETS
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11 = self._logs
        self._logs = [
            t0 + log1p(b0 * step),
            t1 + log1p(b1 * step),
            t2 + log1p(b2 * step),
            t3 + log1p(b3 * step),
            t4 + log1p(b4 * step),
            t5 + log1p(b5 * step),
            t6 + log1p(b6 * step),
            t7 + log1p(b7 * step),
            t8 + log1p(b8 * step),
            t9 + log1p(b9 * step),
            t10 + log1p(b10 * step),
            t11 + log1p(b11 * step),
        ]

    def refutes(self, total: float, alpha: float) -> bool:
        """Whether `low(alpha)` is above `total`. Mostly no bet alone is, and the average needs no look."""
        wanted = -log(alpha)
        each = (
            [logs - bet * total for logs, bet in zip(self._logs, _BETS, strict=True)] if total else self._logs
        )
        return max(each) > wanted and _log_mean(self._logs, total)[0] > wanted

    def low(self, alpha: float) -> float:
        """Return a bound that the sum of the means is below, ever, with probability at most `alpha`."""
        return _crossing(self._logs, -log(alpha))


def boundary(variance: float, alpha: float) -> float:
    """Return how far a sum of steps has to be above the claimed one, for steps of this summed variance.

    The planner's approximation of `Wealth`: log(1 + b z) by b z - (b z)^2 / 2.
    """
    return -_crossing([-bet * bet * variance / 2 for bet in _BETS], -log(alpha))


def _crossing(logs: Sequence[float], wanted: float) -> float:
    """Return the claimed sum at which the logarithm of the wealth is `wanted`.

    It is convex and falls in the claimed sum, so Newton's steps from below approach the crossing from below:
    whatever they stop at is a valid bound.
    """
    total = max(
        (one + weight - wanted) / bet for one, weight, bet in zip(logs, _LOG_WEIGHTS, _BETS, strict=True)
    )
    for _ in range(_ROUNDS):
        value, slope = _log_mean(logs, total)
        step = (value - wanted) / slope
        total += step
        if step < _CLOSE:
            break
    return total


def _log_mean(logs: Sequence[float], total: float) -> tuple[float, float]:
    """Return the logarithm of the averaged wealth against `total`, and how fast it falls there."""
    parts = [one + weight - bet * total for one, weight, bet in zip(logs, _LOG_WEIGHTS, _BETS, strict=True)]
    highest = max(parts)
    masses = [exp(part - highest) for part in parts]
    mass = sum(masses)
    slope = sum(one * bet for one, bet in zip(masses, _BETS, strict=True)) / mass
    return highest + log(mass), slope
