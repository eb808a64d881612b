"""Whether the versions' probabilities of labels are true: shown, and no part of the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.calibration import Calibrated, calibration_figures, if_calibrated, sureness
from training.evaluation.resampling import Interval, Resampling, difference, interval
from training.gate.gaps import LEVEL
from training.gate.measure import CANDIDATE, Answers
from training.gate.rows import Sets, units_of


@dataclass(frozen=True, slots=True)
class Truth:
    """One system's calibration on one set. `brier_gap` is the candidate's Brier score minus this system's."""

    set: str
    role: str
    rows: int
    error: Interval
    if_calibrated: Calibrated
    brier: Interval
    brier_gap: Interval | None


def truths(answers: Answers, sets: Sets, *, seed: int) -> list[Truth]:
    """Return the calibration of every system on every set; nothing where answers are no labels."""
    if not answers.task.labels:
        return []
    return [found for name in sets.asked() for found in _of_set(answers, sets, name, seed=seed)]


def _of_set(answers: Answers, sets: Sets, name: str, *, seed: int) -> Sequence[Truth]:
    rows = sets.asked()[name]
    places = answers.places(rows)
    draws = Resampling(units_of(rows), seed=seed)
    wanted, labels = [row.completion for row in rows], answers.task.labels
    shares = {role: said.chances[places] for role, said in answers.said.items() if said.chances is not None}
    figures = {role: calibration_figures(own, wanted, labels) for role, own in shares.items()}
    found: list[Truth] = []
    for role, (error, brier) in figures.items():
        confidence, _ = sureness(shares[role], wanted, labels)
        ours = figures.get(CANDIDATE)
        found.append(
            Truth(
                name,
                role,
                len(rows),
                interval(error, draws, level=LEVEL),
                if_calibrated(confidence, seed=seed),
                interval(brier, draws, level=LEVEL),
                difference(ours[1], brier, draws, level=LEVEL) if ours and role != CANDIDATE else None,
            )
        )
    return found
