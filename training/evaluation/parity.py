"""Whether the serving engine says what is judged here: what two answers to the same prompts mean. Pure.

Two honest computations of the same weights differ by rounding. What that amounts to is measured here, as the
difference between a prompt in a padded batch and the same prompt alone, or between the base model here and
there where that is more, and never taken to be less than what training recorded. As in attestation, up to
three times the noise is the same weights (docs/decisions/0009).
"""

from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation.resampling import Interval

TOLERANCE = 3.0
"""Times the noise; what attestation allows."""

AGREEMENT = 0.9
"""Greedy answers may part at a near tie. Fewer than nine in ten alike is no rounding."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How one system's answers here compare with the engine's. Distances and noise are in nats.

    `off` says why they are not the same, `failed` why nothing could be compared; both None is parity.
    """

    system: str
    url: str
    rows: int = 0
    distance: float | None = None
    noise: float | None = None
    distance_to_base: float | None = None
    agreement: Interval | None = None
    off: str | None = None
    failed: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the engine was compared, and agrees."""
        return self.off is None and self.failed is None

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "holds": self.holds}


def why_off(apart: float, noise: float, from_base: float | None, agreement: Interval) -> str | None:
    """Return why an engine's answers are not those of the same weights, or None."""
    if apart > TOLERANCE * noise:
        if from_base is not None and from_base < apart:
            return "the engine answers like the base model: the adapter is not applied there"
        return (
            f"first tokens differ by {apart:.3f} nats, {apart / noise:.1f} times the noise; "
            f"{TOLERANCE:g} times are rounding"
        )
    if agreement.high < AGREEMENT:
        return f"only {agreement.value:.0%} of the whole answers are the same"
    return None
