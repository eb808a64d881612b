"""Whether ratings got worse, and whether they got worse on the same inputs (concept drift)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.sample import Effect, FloatArray, TooLittle


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """`run_length` is in ratings. A fall of up to `tolerance` (of the mean, 0 to 1) is no change."""

    run_length: float = 10_000.0
    risk: float = 0.05
    tolerance: float = 0.03
    min_ratings: int = 100
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class FeedbackEvidence:
    """What the ratings say.

    `before` and `after` are means with intervals that hold at every moment; `difference` is after - before
    on the same mix of inputs. `cause` is "concept" when ratings fell on the same inputs, "feedback" when
    only their mean fell, "none" otherwise.
    """

    log_evidence: float
    log_concept_evidence: float
    log_threshold: float
    alarmed: bool
    cause: Literal["feedback", "concept", "none"]
    before: Effect
    after: Effect | None
    difference: Effect | None
    ratings: int


class FeedbackSequence:
    """Ratings between 0 (worst) and 1 (best) since the reference, against those of the reference."""

    @classmethod
    def begin(
        cls, values: FloatArray, strata: NDArray[np.int64] | None, options: FeedbackOptions
    ) -> "FeedbackSequence | TooLittle":
        """Start from the reference's ratings; `strata` (of `Calibration.strata`) says which input each rated."""
        raise NotImplementedError

    def __init__(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        raise NotImplementedError

    def update(
        self, values: FloatArray, strata: NDArray[np.int64] | None, at: FloatArray
    ) -> FeedbackEvidence:
        """Take the next ratings, oldest first, at most one a subject and day."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget the evidence since the reference."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return the state as JSON."""
        raise NotImplementedError
