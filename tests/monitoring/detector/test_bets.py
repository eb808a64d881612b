"""Bets on regions: fair at the bound, restarted, averaged, and a run length that holds."""

import numpy as np
import pytest

from monitoring.detector.bets import SHARES, gains, log_average, odds, restarted


@pytest.mark.parametrize("bound", [0.005, 0.1, 0.6, 1 - 1e-6])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_bet_gains_nothing_on_average_up_to_the_bound(bound: float, part: float) -> None:
    """The mean of the likelihood ratio is at most one while rows fall inside no more often than the bound."""
    ratios, share = odds(np.array([bound])), bound * part
    mean = share * np.exp(ratios.inside) + (1 - share) * np.exp(ratios.outside)
    assert (mean <= 1 + 1e-9).all()


def test_dependent_rows_at_a_root_of_the_bet_gain_nothing_on_average() -> None:
    """Five rows that say the same, at a design effect of five, are one bet."""
    ratios, inside = odds(np.array([0.2])), np.array([5.0])
    effect = np.array([5.0])
    won = np.exp(gains(ratios, inside, np.array([5.0]), design_effect=effect))
    lost = np.exp(gains(ratios, np.array([0.0]), np.array([5.0]), design_effect=effect))
    assert (0.2 * won + 0.8 * lost <= 1 + 1e-9).all()


def _first_alarms(shares: np.ndarray, bound: float, threshold: float, *, seed: int) -> np.ndarray:
    """Return after how many rows each of 400 paths alarms; `shares` are of rows inside, block by block."""
    paths, block = 400, 5
    random = np.random.default_rng(seed)
    ratios = odds(np.full(paths, bound))
    sums = np.full((paths, len(SHARES)), -np.inf)
    rows = np.full(paths, block)
    first = np.full(paths, len(shares) * block)
    going = np.ones(paths, bool)
    for place, share in enumerate(shares):
        inside = random.binomial(block, share, paths).astype(float)
        gain = gains(ratios, inside, rows, design_effect=np.ones(paths))
        sums = restarted(sums, rows.astype(float)) + gain
        alarmed = going & (np.exp(sums).mean(axis=1) >= threshold)
        first[alarmed] = (place + 1) * block
        going &= ~alarmed
    return first


def test_the_run_length_is_at_least_what_is_stated() -> None:
    """At the bound itself, the worst that is no drift, alarms come after 200 rows or more on average."""
    first = _first_alarms(np.full(1000, 0.1), 0.1, 200.0, seed=5)
    assert first.mean() >= 200


def test_long_quiet_does_not_blunt_the_detector() -> None:
    """A change after 4,000 quiet rows is found about as soon as one at the start."""
    change = np.full(200, 0.4)
    at_once = _first_alarms(change, 0.15, 1e4, seed=6)
    quiet = np.full(800, 0.1)
    later = _first_alarms(np.concatenate([quiet, change]), 0.15, 1e4, seed=7) - 4000
    assert (later > 0).all()
    assert np.median(later) <= 1.2 * np.median(at_once)


def test_averages_of_logarithms_do_not_overflow() -> None:
    """The average is right for huge sums, and nothing at all is minus infinity."""
    weights = np.log(np.full((2, 1), 0.5))
    assert log_average(np.array([[2000.0], [2000.0]]), weights) == pytest.approx(2000)
    assert log_average(np.full((2, 1), -np.inf), weights) == -np.inf
