"""Traffic whose topics have their hours, as that of any route that people use has: the same every day."""

import numpy as np
import pytest

from monitoring.detector import levels
from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.detector import Detector
from monitoring.detector.levels import BLOCK_ROWS
from monitoring.detector.sample import DAY_S, DetectorOptions, Sample, take

A_DAY, DRAWN, WATCHED_DAYS = 12_500, 10_000, 7
DIMENSIONS = 12


def _traffic(random: np.random.Generator, *, first: int, days: int, shift: float = 0.0) -> Sample:
    """Return rows of which 20 % are of a topic, ten points more at six o'clock and less at eighteen."""
    count = A_DAY * days
    at = DAY_S * (first + np.sort(random.random(count)) * days)
    topic = random.random(count) < 0.2 + 0.1 * np.sin(2 * np.pi * at / DAY_S)
    vectors = random.normal(size=(count, DIMENSIONS)) * np.linspace(1, 0.2, DIMENSIONS)
    vectors[topic, 0] += 6
    vectors[random.random(count) < shift, -1] += 2.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = {"prompt_chars": np.exp(random.normal(4 + 2.5 * topic, 0.5))}
    return Sample(vectors.astype(np.float32), numbers, at, [None] * count)


def _detector(random: np.random.Generator) -> Detector:
    """Return a detector whose reference is drawn from eight days, in runs."""
    every = _traffic(random, first=0, days=8)
    first = np.sort(random.choice(len(every) // BLOCK_ROWS, DRAWN // BLOCK_ROWS, replace=False)) * BLOCK_ROWS
    found = calibrate(
        take(every, (first[:, None] + np.arange(BLOCK_ROWS)).ravel()), DetectorOptions(run_length=100_000)
    )
    assert isinstance(found, Calibration)
    return Detector(found)


def _alarms(seeds: int) -> int:
    """Return how many routes alarm within a week without drift, 87,500 requests each."""
    alarms = 0
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        detector = _detector(random)
        alarms += any(
            detector.update(_traffic(random, first=8 + day, days=1)).alarmed for day in range(WATCHED_DAYS)
        )
    return alarms


@pytest.mark.slow
def test_hours_that_differ_are_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five routes none alarms in a week; without the tolerance for parts of the day at least four do."""
    assert _alarms(5) == 0
    monkeypatch.setattr(levels, "part_deviation", lambda inside, _rows: np.zeros(inside.shape[1]))
    assert _alarms(5) >= 4


@pytest.mark.slow
def test_a_shift_is_found_where_hours_differ() -> None:
    """A tenth of other requests is found within 2,000, though another topic has its hours."""
    random = np.random.default_rng(7)
    detector = _detector(random)
    assert not detector.update(_traffic(random, first=8, days=1)).alarmed
    assert detector.update(take(_traffic(random, first=9, days=1, shift=0.1), np.arange(2000))).alarmed
