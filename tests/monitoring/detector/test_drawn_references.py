"""References drawn from very many rows without subjects, where the rows of a session resemble each other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.detector import Detector
from monitoring.detector.levels import BLOCK_ROWS, design_effect
from monitoring.detector.sample import DAY_S, DetectorOptions, Sample

COUNT, DAYS, DRAWN = 70_000, 7, 7_000
COLUMNS = ("prompt_chars", "answer_chars", "prompt_signs")


def _traffic(random: np.random.Generator, rows: int, *, since: float) -> Sample:
    """Return rows of sessions of one to ten, some twenty at a time; a row is half its session's."""
    session = np.repeat(np.arange(rows), np.minimum(random.geometric(0.3, rows), 10))[:rows]
    session = session[np.argsort(np.arange(rows) + 20 * random.random(rows), kind="stable")]
    numbers = {
        name: np.exp(np.sqrt(0.5) * (random.normal(size=rows)[session] + random.normal(size=rows)))
        for name in COLUMNS
    }
    at = since + np.arange(rows) * (DAYS * DAY_S / COUNT)
    return Sample(np.zeros((rows, 0), np.float32), numbers, at, [None] * rows)


def _taken(sample: Sample, places: NDArray[np.int64]) -> Sample:
    numbers = {name: column[places] for name, column in sample.numbers.items()}
    return Sample(sample.vectors[places], numbers, sample.at[places], [None] * len(places))


def _runs(random: np.random.Generator, rows: int, drawn: int) -> NDArray[np.int64]:
    first = np.sort(random.choice(rows // BLOCK_ROWS, drawn // BLOCK_ROWS, replace=False)) * BLOCK_ROWS
    places: NDArray[np.int64] = (first[:, None] + np.arange(BLOCK_ROWS)).ravel()
    return places


def _alarms(*, runs: bool) -> tuple[list[float], int]:
    """Return the design effects of ten references, and how many alarm in 30,000 rows without drift."""
    effects, alarms = [], 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        every = _traffic(random, COUNT, since=0.0)
        places = _runs(random, COUNT, DRAWN) if runs else np.sort(random.choice(COUNT, DRAWN, replace=False))
        found = calibrate(_taken(every, places), DetectorOptions(run_length=100_000, min_days=6.5))
        assert isinstance(found, Calibration)
        effects.append(float(found.regions.design_effect[0]))
        detector = Detector(found)
        alarms += detector.update(_traffic(random, 30_000, since=DAY_S * DAYS)).alarmed
    return effects, alarms


@pytest.mark.slow
def test_sessions_are_no_drift_where_the_reference_is_of_runs() -> None:
    """In 300,000 rows no more than three alarms at a stated 100,000; of rows drawn one by one far more."""
    effects, alarms = _alarms(runs=True)
    assert 1.4 < min(effects) < max(effects) < 2.6
    assert alarms <= 3
    effects, alarms = _alarms(runs=False)
    assert max(effects) < 1.3
    assert alarms >= 8


@pytest.mark.parametrize("longest", [1, 8])
def test_a_share_of_drawn_runs_varies_by_the_design_effect(longest: int) -> None:
    """By so much the variance of 1,000 draws' shares is above that of independent rows (Kish 1965)."""
    random = np.random.default_rng(5)
    inside = np.repeat(random.random(80_000 // longest) < 0.3, longest)[:, None]
    draws = [_runs(random, len(inside), 4000) for _ in range(1000)]
    variance = np.var([inside[places].mean() for places in draws])
    left = 1 - 4000 / len(inside)  # the draws are of a finite number of rows
    found = float(np.mean([design_effect(inside[places], np.array([0])) for places in draws[:20]]))
    assert variance / (0.3 * 0.7 / 4000 * left) == pytest.approx(found, rel=0.15)
    assert found == pytest.approx(longest, rel=0.15)
