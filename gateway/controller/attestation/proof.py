"""What is asked about, and what a proof says: the figures that are stored and shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.manifest import Reference as Recorded
from gateway.controller.attestation.judge import Comparison, Verdict

_ORDER = {"training": 0, "fleet": 1, "itself": 2}


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The version before: what the engine calls it, and its digest."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The version that is to be proved. `recorded` is the reference of its manifest.

    `digest_verified` is false when nobody could look at the files that the engine reads.
    """

    name: str
    digest: str
    recorded: Recorded | None = None
    predecessor: Predecessor | None = None
    digest_verified: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """A verdict with what it cost. `training` says what became of the manifest's reference.

    `quiet` says that the engine had nothing else to do while it was asked.
    """

    verdict: Verdict
    subject: Subject
    training: str
    probes: int
    seconds: float
    quiet: bool = False

    @property
    def fault(self) -> str | None:
        """What is wrong, or None when the version is proved."""
        return self.verdict.fault

    @property
    def weak(self) -> str | None:
        """Why the proof alone would not do, or None when it is strong or failed."""
        if self.fault is not None:
            return None
        if not self.subject.digest_verified:
            return "; ".join(
                part for part in ("the engine's own files could not be verified", self.verdict.weak) if part
            )
        return self.verdict.weak

    def figures(self) -> dict[str, Any]:
        """Return the figures as they are stored: distances and noise in nats, separation in noises."""
        compared = sorted(self.verdict.comparisons, key=lambda each: _ORDER[each.kind])
        first = next((each for each in compared if each.independent), compared[0] if compared else None)
        predecessor = self.subject.predecessor
        return {
            "distance_to_reference": _rounded(first.distance if first else None),
            "distance_to_base": _rounded(self.verdict.to_base),
            "distance_to_predecessor": _rounded(self.verdict.to_predecessor),
            "predecessor": predecessor.name if predecessor else None,
            "noise": _rounded(first.noise if first else self.verdict.noise),
            "separation": _rounded(first.separation if first else None, 1),
            "reference": first.kind if first else "none",
            "training_reference": self.training,
            "comparisons": [_comparison(each) for each in compared],
            "weak": self.weak,
            "digest": "verified" if self.subject.digest_verified else "not verified",
            "probes": self.probes,
            "engine": "quiet" if self.quiet else "busy",
            "seconds": round(self.seconds, 3),
        }


def _comparison(each: Comparison) -> Mapping[str, Any]:
    return {
        "reference": each.kind,
        "distance": _rounded(each.distance),
        "noise": _rounded(each.noise),
        "separation": _rounded(each.separation, 1),
        "log_ratio": _rounded(each.log_ratio, 1),
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
