"""Rows made for the tests of the detector: vectors of two kinds, a length, times over days."""

import numpy as np

from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.sample import DAY_S, DetectorOptions, Sample

DIMENSIONS = 12
START = DAY_S * 19_000
SMALL = DetectorOptions(run_length=20_000, min_rows=1000, min_days=7)


def sample(
    rows: int,
    *,
    seed: int,
    shift: float = 0.0,
    days: float = 8,
    start: float = START,
    longer: float = 0.0,
    units: bool = False,
) -> Sample:
    """Return rows of which a share is of another kind; `longer` is added to the logarithm of the lengths."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, DIMENSIONS)) * np.linspace(1, 0.2, DIMENSIONS)
    vectors[random.random(rows) < shift, -1] += 2.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Sample(
        vectors=vectors.astype(np.float32),
        numbers={"prompt_chars": np.exp(random.normal(4 + longer, 0.5, rows))},
        at=start + DAY_S * days * np.arange(rows) / max(1, rows),
        units=[f"u{place % 211}" if units else None for place in range(rows)],
    )


def calibrated(options: DetectorOptions = SMALL, *, rows: int = 1500, seed: int = 1) -> Calibration:
    """Return a calibration on rows without a shift."""
    found = calibrate(sample(rows, seed=seed), options)
    assert isinstance(found, Calibration)
    return found
