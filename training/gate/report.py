"""A gate's verdict whole, as one JSON document: `gate.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation.resampling import Interval
from training.gate.common import Common
from training.gate.decide import Decision, Rule
from training.gate.gaps import ALPHA, LEVEL
from training.gate.phrases import Probed
from training.gate.speed import Speed
from training.gate.tested import Tested
from training.gate.truth import Truth

FORMAT = 1
"""The version of the document. Fields are added; their meaning does not change under one number."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One system's main figure on one set."""

    set: str
    role: str
    rows: int
    units: int
    here: Interval


@dataclass(frozen=True, slots=True)
class Failing:
    """A row that the candidate answers worse than the other system. Texts stay out of the document."""

    row_id: str | None
    line: int
    prompt: str
    wanted: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the gate says. `systems` maps roles to (name, digest)."""

    route: str
    decision: Decision
    rule: Rule
    metric: str
    systems: Mapping[str, tuple[str, str | None]]
    scores: tuple[Scored, ...]
    trusted_rows: int
    calibration: tuple[Truth, ...]
    speed: tuple[Speed, ...]
    phrases: tuple[Probed, ...]
    common: Common | None
    failing: tuple[Failing, ...]
    notes: tuple[str, ...]
    seed: int
    created_at: float
    code_version: str
    command: str

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        decision = self.decision
        driver = decision.driver
        return {
            "format": FORMAT,
            "route": self.route,
            "verdict": decision.verdict,
            "reason": decision.reason,
            "driver": driver.name if driver else None,
            "driver_question": _question(driver) if driver else None,
            "need_rows": decision.need_rows,
            "metric": self.metric,
            "level": LEVEL,
            "alpha": ALPHA,
            "rule": asdict(self.rule),
            "systems": {
                role: {"name": name, "digest": digest} for role, (name, digest) in self.systems.items()
            },
            "sets": self._sets(),
            "slices": [_question(each) for each in decision.tested if each.part is not None],
            "trusted_rows": self.trusted_rows,
            "phrases": [
                asdict(each) | {"shown": each.phrase.shown, "suspicious": each.suspicious}
                for each in self.phrases
            ],
            "common": asdict(self.common) if self.common else None,
            "failing_rows": [
                {"row_id": row.row_id, "line": row.line} for row in self.failing if row.row_id or row.line
            ],
            "calibration": [asdict(each) for each in self.calibration],
            "speed": [asdict(each) for each in self.speed],
            "notes": list(self.notes),
            "seed": self.seed,
            "created_at": self.created_at,
            "code_version": self.code_version,
            "command": self.command,
        }

    def _sets(self) -> dict[str, Any]:
        whole = [each for each in self.decision.tested if each.part is None]
        names = dict.fromkeys([*(each.set for each in self.scores), *(each.set for each in whole)])
        return {
            name: {
                "systems": {each.role: asdict(each.here) for each in self.scores if each.set == name},
                "rows": next((each.rows for each in self.scores if each.set == name), None),
                "questions": [_question(each) for each in whole if each.set == name],
            }
            for name in names
        }


def _question(each: Tested) -> dict[str, Any]:
    gap = each.gap
    return {
        "name": each.name,
        "set": each.set,
        "slice": each.part,
        "against": each.against,
        "asks": each.asks,
        "state": each.state,
        "rows": gap.rows,
        "units": gap.units,
        "need": each.need,
        "difference": asdict(gap.interval),
        "bar": each.bar,
        "p_better": gap.p_better,
        "p_worse": gap.p_worse,
        "p_harm": each.p_harm,
        "discordance": gap.differing,
        "design_effect": gap.design,
    }
