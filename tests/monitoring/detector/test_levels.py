"""Levels of regions: bounds that a finite reference pays for, days that differ, rows that resemble."""

import numpy as np
import pytest

from monitoring.detector.levels import (
    ReferenceRows,
    chernoff_upper,
    day_deviation,
    design_effect,
    exact_upper,
    levels,
    part_deviation,
)
from monitoring.detector.sample import DAY_S


@pytest.mark.parametrize("true", [0.01, 0.2, 0.5, 0.95])
def test_the_bounds_fail_no_more_often_than_they_say(true: float) -> None:
    """Of 4,000 references of 300 rows, no more than a twentieth have a bound below the true level."""
    found = np.random.default_rng(1).binomial(300, true, 4000) / 300
    for upper in (chernoff_upper(found, 300, np.log(20)), exact_upper(found, 300, 0.05)):
        assert (upper < true).mean() <= 0.05 + 0.007  # two standard errors of this simulation
        assert (upper >= found).all()


def test_the_exact_bound_is_tighter_and_its_chance_is_each_regions_own() -> None:
    """It is below Chernoff's at the same chance, one of few rows above one of many, all of them at one."""
    found = np.array([0.0, 0.01, 0.3, 1.0])
    exact = exact_upper(found, 1467, 0.001)
    assert (exact[:-1] < chernoff_upper(found, 1467, np.log(1000))[:-1]).all()
    assert exact[-1] == 1
    assert exact[0] == pytest.approx(1 - 0.001 ** (1 / 1467))
    own = exact_upper(np.full(2, 0.05), 1000, np.array([0.01, 1e-6]))
    assert own[0] < own[1]
    assert (exact_upper(found[:-1], 100.5, 0.001) > exact[:-1]).all()


def test_a_bound_of_more_rows_is_tighter() -> None:
    """The bound falls towards the share found as rows are added, and stays below one."""
    uppers = [float(chernoff_upper(np.array([0.1]), rows, 5.0)[0]) for rows in (50, 500, 5000)]
    assert uppers == sorted(uppers, reverse=True)
    assert 0.1 < uppers[-1] < 0.13
    assert float(chernoff_upper(np.array([1.0]), 10, 5.0)[0]) <= 1


def _rows(count: int, starts: np.ndarray) -> ReferenceRows:
    return ReferenceRows(np.ones(count, bool), starts, np.zeros(count, np.uint8))


def _by_day(shares: list[float], rows: int, seed: int) -> tuple[np.ndarray, ReferenceRows]:
    random = np.random.default_rng(seed)
    inside = np.concatenate([random.random((rows, 1)) < share for share in shares])
    return inside, _rows(len(inside), np.arange(len(shares)) * rows)


def test_days_that_differ_widen_the_tolerance() -> None:
    """Weekends with more of a topic are found as a deviation between days, days alike as next to none."""
    alike, rows = _by_day([0.2] * 8, 400, seed=2)
    weekly, _ = _by_day([0.2] * 5 + [0.5] * 2 + [0.2], 400, seed=3)
    assert day_deviation(alike, rows)[0] < 0.02
    assert 0.08 < day_deviation(weekly, rows)[0] < 0.2
    bounds = [
        levels(inside, rows, chance=0.01, day_tolerance=2, tolerance=0.01).bound[0]
        for inside in (alike, weekly)
    ]
    assert bounds[1] > 0.5 > bounds[0]


def test_levels_are_measured_on_level_rows_and_days_on_all() -> None:
    """Rows that drew the regions count for how days differ, not for how often rows are inside."""
    inside = np.repeat([[True], [False], [True], [False]], 100, axis=0)
    level = np.arange(400) >= 200
    rows = ReferenceRows(level, np.array([0, 200]), np.zeros(400, np.uint8))
    assert levels(inside, rows, chance=0.01, day_tolerance=0, tolerance=0).found[0] == 0.5
    shape_only = np.concatenate([np.ones((200, 1), bool), np.zeros((200, 1), bool)])
    found = levels(shape_only, rows, chance=0.01, day_tolerance=1, tolerance=0)
    assert found.found[0] == 0
    assert found.bound[0] > 0.5


def test_one_day_has_no_deviation() -> None:
    """A reference of a single day claims no deviation between days."""
    assert day_deviation(np.ones((5, 2), bool), _rows(5, np.array([0]))).tolist() == [0, 0]


def _by_hour(swing: float, rows: int, seed: int, *, regions: int = 1) -> tuple[np.ndarray, ReferenceRows]:
    """Return rows of eight days of which 20 % are inside, `swing` more at six o'clock, less at eighteen."""
    random = np.random.default_rng(seed)
    at = np.sort(random.random(rows)) * 8 * DAY_S
    inside = random.random((rows, regions)) < (0.2 + swing * np.sin(2 * np.pi * at / DAY_S))[:, None]
    return inside, ReferenceRows.at(np.ones(rows, bool), at)


def test_hours_that_differ_widen_the_tolerance() -> None:
    """The bound is above what a topic reaches at its hour, of which days that are alike know nothing."""
    inside, rows = _by_hour(0.1, 10_000, seed=5)
    assert day_deviation(inside, rows)[0] < 0.02
    assert part_deviation(inside, rows)[0] == pytest.approx(0.1 / np.sqrt(2), rel=0.2)
    assert levels(inside, rows, chance=0.01, day_tolerance=2, tolerance=0.005).bound[0] > 0.3


@pytest.mark.parametrize("longest", [1, 8])
def test_hours_that_differ_by_chance_widen_nothing(longest: int) -> None:
    """In one of a hundred regions at most, also where rows that follow each other resemble each other."""
    random = np.random.default_rng(6)
    inside = np.repeat(random.random((8000 // longest, 2000)) < 0.2, longest, axis=0)
    at = np.arange(8000) * (8 * DAY_S / 8000)
    rows = ReferenceRows.at(np.ones(8000, bool), at, design_effect=float(longest))
    assert (part_deviation(inside, rows) > 0).mean() < 0.01 + 0.007  # three standard errors


def test_a_route_that_sleeps_has_the_parts_of_the_day_that_it_has() -> None:
    """Rows of one part of the day say nothing of parts; those of two are compared."""
    level, day = np.ones(400, bool), np.arange(400) // 50 * DAY_S
    inside = (np.arange(400) % 2 == 0)[:, None]
    assert part_deviation(inside, ReferenceRows.at(level, day))[0] == 0
    apart = ReferenceRows.at(level, day + np.where(inside[:, 0], DAY_S / 2, 0))
    assert part_deviation(inside, apart)[0] == pytest.approx(0.5**0.5, rel=0.02)


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
