"""The sequential change detector."""

from typing import Any

from monitoring.detector.calibration import Calibration
from monitoring.detector.sample import Evidence, Sample


class Detector:
    """Adds up evidence against "as in the reference" and says when it is enough.

    Memory does not grow with the rows: hand long traffic over in parts, oldest first.
    """

    def __init__(self, calibration: Calibration, state: dict[str, Any] | None = None) -> None:
        """Begin anew, or where `state` (of `state()`, with the same calibration) left off.

        Raises:
            ValueError: the state belongs to another calibration.
        """
        raise NotImplementedError

    def update(self, sample: Sample) -> Evidence:
        """Take the next rows, none of which was seen before, and return where things stand."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget the evidence, after an alarm was acted on or dismissed; the reference stays."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return the state as JSON, some tens of kilobytes."""
        raise NotImplementedError
