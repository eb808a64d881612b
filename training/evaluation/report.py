"""An evaluation whole, as one JSON document: what was judged, how, what was found, and what to doubt."""

from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation.compare import Compared, Findings
from training.evaluation.parity import Parity
from training.evaluation.preference import Preferences
from training.evaluation.slices import SliceFigure, SliceGap, most_harmed, weakest
from training.evaluation.systems import System

FORMAT = 1
"""The version of the document. Fields are added; their meaning does not change under one number."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that an evaluation says.

    `rival` is what slices and changed answers are against: the version in production, or the base model.
    """

    candidate: str
    rival: str
    source: str
    systems: tuple[System, ...]
    findings: Findings
    parity: tuple[Parity, ...]
    preferences: Preferences | None
    settings: dict[str, Any]
    notes: tuple[str, ...]
    created_at: float
    code_version: str
    command: str

    def weakest_slice(self) -> SliceFigure | None:
        """The judged slice on which the candidate stands worst beside its other rows, by the main metric."""
        primary = self.findings.primary
        return weakest([each for each in self.findings.slices if each.metric == primary])

    def most_harmed_slice(self) -> SliceGap | None:
        """The judged slice on which the candidate does worst against the rival."""
        return most_harmed(self.findings.slice_gaps)

    def main(self) -> tuple[Compared, ...]:
        """The candidate against each other system by the main metric."""
        return tuple(each for each in self.findings.differences if each.metric == self.findings.primary)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        found = asdict(self.findings)
        weak, harmed = self.weakest_slice(), self.most_harmed_slice()
        return {
            "format": FORMAT,
            "candidate": self.candidate,
            "rival": self.rival,
            "source": self.source,
            "versions": [_system(system) for system in self.systems],
            **found,
            "weakest_slice": asdict(weak) if weak else None,
            "most_harmed_slice": asdict(harmed) if harmed else None,
            "parity": [each.document() for each in self.parity],
            "preferences": self.preferences.document() if self.preferences else None,
            "settings": self.settings,
            "notes": list(self.notes),
            "created_at": self.created_at,
            "code_version": self.code_version,
            "command": self.command,
        }


def _system(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "digest": system.digest,
        "in_production": system.in_production,
        "data_fingerprint": system.lineage.data_fingerprint if system.lineage else None,
    }
