"""Levels of regions: bounds that a finite reference pays for, days that differ, rows that resemble."""

import numpy as np
import pytest

from monitoring.detector.levels import LevelRows, chernoff_upper, day_deviation, design_effect, levels


@pytest.mark.parametrize("true", [0.01, 0.2, 0.5, 0.95])
def test_the_bound_fails_no_more_often_than_it_says(true: float) -> None:
    """Of 4,000 references of 300 rows, no more than a twentieth have a bound below the true level."""
    found = np.random.default_rng(1).binomial(300, true, 4000) / 300
    upper = chernoff_upper(found, 300, np.log(20))
    assert (upper < true).mean() <= 0.05 + 0.007  # two standard errors of this simulation
    assert (upper >= found).all()


def test_a_bound_of_more_rows_is_tighter() -> None:
    """The bound falls towards the share found as rows are added, and stays below one."""
    uppers = [float(chernoff_upper(np.array([0.1]), rows, 5.0)[0]) for rows in (50, 500, 5000)]
    assert uppers == sorted(uppers, reverse=True)
    assert 0.1 < uppers[-1] < 0.13
    assert float(chernoff_upper(np.array([1.0]), 10, 5.0)[0]) <= 1


def _by_day(shares: list[float], rows: int, seed: int) -> tuple[np.ndarray, LevelRows]:
    random = np.random.default_rng(seed)
    inside = np.concatenate([random.random((rows, 1)) < share for share in shares])
    return inside, LevelRows(len(inside), np.arange(len(shares)) * rows)


def test_days_that_differ_widen_the_tolerance() -> None:
    """Weekends with more of a topic are found as a deviation between days, days alike as next to none."""
    alike, rows = _by_day([0.2] * 8, 400, seed=2)
    weekly, _ = _by_day([0.2] * 5 + [0.5] * 2 + [0.2], 400, seed=3)
    assert day_deviation(alike, rows)[0] < 0.02
    assert 0.08 < day_deviation(weekly, rows)[0] < 0.2
    bounds = [
        levels(inside, rows, log_chance=5, day_tolerance=2, tolerance=0.01).bound[0]
        for inside in (alike, weekly)
    ]
    assert bounds[1] > 0.5 > bounds[0]


def test_one_day_has_no_deviation() -> None:
    """A reference of a single day claims no deviation between days."""
    assert day_deviation(np.ones((5, 2), bool), LevelRows(5, np.array([0]))).tolist() == [0, 0]


def test_rows_that_say_the_same_count_for_less() -> None:
    """Sessions of eight equal rows have a design effect of about eight; independent rows have one of one."""
    random = np.random.default_rng(4)
    starts = np.arange(5) * 800
    alone = random.random((4000, 6)) < 0.3
    assert design_effect(alone, starts) < 1.3
    together = np.repeat(random.random((500, 6)) < 0.3, 8, axis=0)
    assert 6 < design_effect(together, starts) < 10


def test_a_day_too_short_for_blocks_has_no_design_effect() -> None:
    """With fewer than two blocks a day nothing is known of rows' likeness, and one is assumed."""
    assert design_effect(np.ones((30, 2), bool), np.array([0])) == 1.0
