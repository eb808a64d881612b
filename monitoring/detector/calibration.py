"""A reference turned into what a detector needs: `calibrate`."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.sample import DetectorOptions, Sample, TooLittle, Vectors


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that is kept of a reference: a JSON document and arrays (stored as .npz, without pickle)."""

    options: DetectorOptions

    def document(self) -> dict[str, Any]:
        """Return what is no array, as JSON."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        raise NotImplementedError

    @classmethod
    def from_document(cls, document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the calibration that `document` and `arrays` were taken from.

        Raises:
            ValueError: they are no calibration of this version.
        """
        raise NotImplementedError

    def strata(self, vectors: Vectors) -> NDArray[np.int64]:
        """Return for each row which of the reference's clusters of inputs it is nearest to."""
        raise NotImplementedError


def calibrate(reference: Sample, options: DetectorOptions) -> Calibration | TooLittle:
    """Return what a detector needs of a reference, or what the reference lacks."""
    raise NotImplementedError
