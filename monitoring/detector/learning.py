"""Regions that are learned from the traffic: where it lately moved to, as seen from the reference.

At several time scales the mean of recent rows is kept, in coordinates in which the reference has the same
spread everywhere. The direction from the reference's mean to it is the witness of a two-sample test (Kuebler,
Stimper, Buchholz, Muandet and Schoelkopf, A Witness Two-Sample Test, AISTATS 2022), and rows far along it
are a region. A direction is used only for rows that come after it was learned, and it is learned without the
level rows, so these give its level, for a share of the calibration's risk each time.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.calibration import Calibration
from monitoring.detector.levels import NO_BOUND, levels
from monitoring.detector.sample import FloatArray

SCALES = (150, 600, 2400)  # rows that a mean of recent rows stands for
TAILS = (0.5, 0.8, 0.95)
COUNT = len(SCALES) * len(TAILS)
_REFRESHES_A_SCALE = 2
_LEAST = 0.5  # of a scale's rows, before anything is learned at it


@dataclass(slots=True)
class Learner:
    """The means of recent rows, the directions learned last, and their levels.

    `means` and `weights` are exponentially weighted sums and their weights; `waited` are the rows since a
    direction was learned; `edges`, `found` and `bound` have shape (scales, tails).
    """

    sums: FloatArray
    weights: FloatArray
    waited: NDArray[np.int64]
    refreshes: int
    directions: NDArray[np.float32]
    edges: FloatArray
    found: FloatArray
    bound: FloatArray

    @classmethod
    def fresh(cls, dimensions: int) -> Self:
        """Return one that has seen nothing."""
        scales, shape = len(SCALES), (len(SCALES), len(TAILS))
        return cls(
            np.zeros((scales, dimensions)),
            np.zeros(scales),
            np.zeros(scales, dtype=np.int64),
            0,
            np.zeros((scales, dimensions), dtype=np.float32),
            np.zeros(shape),
            np.ones(shape),
            np.full(shape, NO_BOUND),
        )

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the learner of `document()`."""
        return cls(
            np.array(document["sums"], float),
            np.array(document["weights"], float),
            np.array(document["waited"], np.int64),
            int(document["refreshes"]),
            np.array(document["directions"], np.float32),
            np.array(document["edges"], float),
            np.array(document["found"], float),
            np.array(document["bound"], float),
        )

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "sums": self.sums.tolist(),
            "weights": self.weights.tolist(),
            "waited": self.waited.tolist(),
            "refreshes": self.refreshes,
            "directions": self.directions.tolist(),
            "edges": self.edges.tolist(),
            "found": self.found.tolist(),
            "bound": self.bound.tolist(),
        }

    @property
    def ready(self) -> NDArray[np.bool_]:
        """Whether each region, in the order of `inside`, has a direction."""
        return (self.bound < NO_BOUND).ravel()

    def inside(self, coordinates: NDArray[np.float32]) -> FloatArray:
        """Return how many of the rows are in each region: shape (scales * tails,)."""
        along = coordinates @ self.directions.T
        counts: FloatArray = (along[:, :, None] > self.edges).sum(axis=0).astype(np.float64).ravel()
        return counts

    def learn(self, coordinates: NDArray[np.float32], calibration: Calibration) -> bool:
        """Take a block of rows, after they were bet on, and return whether any region is another now."""
        rows = len(coordinates)
        total = coordinates.sum(axis=0, dtype=np.float64)
        fade = np.exp(-rows * 2 / np.array(SCALES))
        self.sums = self.sums * fade[:, None] + total
        self.weights = self.weights * fade + rows
        self.waited += rows
        changed = False
        for place, scale in enumerate(SCALES):
            due = self.waited[place] * _REFRESHES_A_SCALE >= scale
            if (
                due
                and self.weights[place] >= _LEAST * scale / 2
                and self.refreshes < calibration.options.refreshes
            ):
                self._refresh(place, calibration)
                changed = True
        return changed

    def _refresh(self, place: int, calibration: Calibration) -> None:
        mean = self.sums[place] / self.weights[place]
        direction = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
        along = calibration.coordinates @ direction
        edges = np.quantile(along[~calibration.reference.level], TAILS)
        options = calibration.options
        measured = levels(
            along[:, None] > edges,
            calibration.reference,
            chance=calibration.learned_risk / (options.refreshes * len(TAILS)),
            day_tolerance=options.day_tolerance,
            tolerance=options.tolerance,
        )
        self.directions[place] = direction
        self.edges[place] = edges
        self.found[place] = measured.found
        self.bound[place] = measured.bound
        self.waited[place] = 0
        self.refreshes += 1
