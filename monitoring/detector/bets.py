"""Bets that more rows fall into regions than their bounds allow, restarted at every block: the e-detector.

Shin, Ramdas and Rinaldo (E-detectors: a nonparametric framework for sequential change detection, New England
Journal of Statistics in Data Science 2024). Let b be a region's bound and q > b. While a row falls into the
region with probability b or less given the past, the likelihood ratio

    e = q/b inside, (1 - q)/(1 - b) outside

has mean 1 or less. The Shiryaev-Roberts sum R <- (R + rows of the block) * (product of e over the block)
adds a fresh bet for every row at which a change may begin, so that a long quiet time does not blunt it. R
minus the rows so far is a supermartingale, and so is every weighted average of such sums: until the average
reaches A, A rows or more go by on average. A product to the power 1/m is a bet as well when up to m rows
that follow each other say the same (Hoelder's inequality).
"""

from dataclasses import dataclass

import numpy as np

from monitoring.detector.sample import FloatArray

# Of how much new traffic, all inside the region, a bet is the best one.
SHARES = np.array([0.02, 0.05, 0.12, 0.3, 0.6])


@dataclass(frozen=True, slots=True)
class Odds:
    """Logarithms of the likelihood ratios, each of shape (regions, len(SHARES))."""

    inside: FloatArray
    outside: FloatArray


def odds(bound: FloatArray) -> Odds:
    """Return the ratios of bets against bounds, of shape (regions,), each between 0 and 1."""
    null = bound[:, None]
    other = null + SHARES * (1 - null)
    return Odds(np.log(other / null), np.log1p(-other) - np.log1p(-null))


def restarted(log_sums: FloatArray, present: FloatArray) -> FloatArray:
    """Return the logarithms of the sums with a fresh bet for each row of the coming block.

    `present` counts, for each region, the block's rows that could be inside: shape (regions,).
    """
    with np.errstate(divide="ignore"):
        fresh = np.log(present)[:, None]
    result: FloatArray = np.logaddexp(log_sums, fresh)
    return result


def gains(ratios: Odds, inside: FloatArray, present: FloatArray, *, design_effect: FloatArray) -> FloatArray:
    """Return a block's log likelihood ratios, of shape (regions, len(SHARES))."""
    result: FloatArray = (
        inside[:, None] * ratios.inside + (present - inside)[:, None] * ratios.outside
    ) / design_effect[:, None]
    return result


def log_average(log_sums: FloatArray, log_weights: FloatArray) -> float:
    """Return the logarithm of the weighted average of the sums."""
    terms = (log_sums + log_weights).ravel()
    highest = float(terms.max())
    if highest == -np.inf:
        return highest
    return highest + float(np.log(np.exp(terms - highest).sum()))
