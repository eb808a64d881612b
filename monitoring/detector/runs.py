"""When a change began and how large it is: a cumulative sum for each region, beside the e-detector."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from monitoring.detector.sample import Effect, FloatArray

_FEW = 30.0
_SUMS = ("evidence", "rows", "inside", "expected", "bounded")


@dataclass(slots=True)
class Runs:
    """For each region, the run of rows since its cumulative sum of evidence was last at zero.

    `expected` is how many of the run's rows would be inside at the reference's level, `bounded` at the bound.
    """

    evidence: FloatArray
    rows: FloatArray
    inside: FloatArray
    expected: FloatArray
    bounded: FloatArray
    began: FloatArray

    @classmethod
    def fresh(cls, regions: int) -> Self:
        """Return runs that have not begun."""
        return cls(**{name: np.zeros(regions) for name in _SUMS}, began=np.full(regions, np.nan))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the runs of `document()`."""
        began = [np.nan if value is None else value for value in document["began"]]
        return cls(**{name: np.array(document[name], float) for name in _SUMS}, began=np.array(began, float))

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        began = [None if np.isnan(value) else value for value in self.began.tolist()]
        return {**{name: getattr(self, name).tolist() for name in _SUMS}, "began": began}

    def add(
        self,
        gain: FloatArray,
        *,
        inside: FloatArray,
        present: FloatArray,
        found: FloatArray,
        bound: FloatArray,
        at: float,
    ) -> None:
        """Count a block that begins at `at`. A run whose evidence falls to zero ends."""
        over = self.evidence <= 0
        for column in (self.rows, self.inside, self.expected, self.bounded):
            column[over] = 0
        self.began[over] = at
        self.evidence = np.maximum(self.evidence, 0) + gain
        self.rows += present
        self.inside += inside
        self.expected += found * present
        self.bounded += bound * present

    def effect(self, region: int, *, level_rows: float, design_effect: float, z: float) -> Effect:
        """Return how much larger the region's share is than at its level, with its tolerance."""
        rows = self.rows[region]
        if rows <= 0:
            return Effect(0.0, -1.0, 1.0, 0.0)
        share, level = self.inside[region] / rows, self.expected[region] / rows
        now = score_interval(share, rows / design_effect, z)
        before = score_interval(level, max(1.0, level_rows / design_effect), z)
        below = np.hypot(share - now[0], before[1] - level)
        above = np.hypot(now[1] - share, level - before[0])
        value = float(share - level)
        return Effect(
            value, value - float(below), value + float(above), float(self.bounded[region] / rows - level)
        )

    def long_enough(self, region: int) -> bool:
        """Whether the region's run has enough rows to be called one."""
        return bool(self.evidence[region] > 0 and self.rows[region] >= _FEW)


def score_interval(share: float, rows: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a share of `rows` rows, which need not be whole."""
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
