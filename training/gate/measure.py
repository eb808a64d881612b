"""From answers to gaps: each set, each slice and the trusted rows, by the main metric. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Example
from training.evaluation.asking import Said
from training.evaluation.figures import Figure
from training.evaluation.judged import Judged, Task, figures_of
from training.evaluation.resampling import Resampling
from training.evaluation.slices import slices_of
from training.gate.decide import BEST, CHAMPION, GOLDEN, NEW, OLD, Measured
from training.gate.gaps import Gap, gap_of
from training.gate.rows import Sets, columns_of, identity, trusted, units_of

CANDIDATE = "candidate"
HELD_OUT = "held out"
"""The slice of the old rows that are not golden."""

MIN_SLICE_ROWS = 10
"""Smaller slices say nothing, and are not even shown."""

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What each role (candidate, champion, best) said to all rows, and the task that judges it.

    `rows` are those of all sets, each once; `figures` the main metric of each role on them.
    """

    rows: tuple[Example, ...]
    task: Task
    said: Mapping[str, Said]
    figures: Mapping[str, Figure]

    def places(self, rows: Sequence[Example]) -> Places:
        """Return where these rows stand among all."""
        where = {identity(row): place for place, row in enumerate(self.rows)}
        return np.array([where[identity(row)] for row in rows], dtype=np.int64)


def answers_of(rows: tuple[Example, ...], task: Task, said: Mapping[str, Said]) -> Answers:
    """Return what roles said with the main figure of each."""
    figures = {
        role: figures_of(Judged(role, "version", (each.answers,)), task)[task.primary]
        for role, each in said.items()
    }
    return Answers(rows, task, said, figures)


def measure(answers: Answers, sets: Sets, *, seed: int) -> Measured:
    """Return every gap that the verdict goes by."""
    whole: dict[str, dict[str, Gap]] = {}
    parts: dict[str, dict[str, Gap]] = {}
    for name, rows in sets.asked().items():
        places = answers.places(rows)
        whole[name] = {
            other: _gap(answers, other, rows, places, seed)
            for other in (CHAMPION, BEST)
            if other in answers.figures and not (other == BEST and name == NEW)
        }
        parts[name] = {
            part: _gap(answers, CHAMPION, [rows[place] for place in inside], places[inside], seed)
            for part, inside in slices_in(sets, name).items()
        }
    new = sets.rows[NEW]
    right = answers.figures[CHAMPION].at(answers.places(new)).value if new else None
    return Measured(whole, parts, _trusted_gap(answers, new, seed), right)


def slices_in(sets: Sets, name: str) -> dict[str, Places]:
    """Return the slices of a question's rows by name, as places: by fields, prompts' lengths and files."""
    rows = sets.asked()[name]
    found = {part.name: part.places for part in slices_of(rows, columns_of(rows))}
    if name == OLD:
        golden = {identity(row) for row in sets.rows[GOLDEN]}
        inside = np.array([identity(row) in golden for row in rows])
        found |= {GOLDEN: np.flatnonzero(inside), HELD_OUT: np.flatnonzero(~inside)}
    return {name: inside for name, inside in found.items() if MIN_SLICE_ROWS <= len(inside) < len(rows)}


def _gap(answers: Answers, other: str, rows: Sequence[Example], places: Places, seed: int) -> Gap:
    ours, theirs = answers.figures[CANDIDATE].at(places), answers.figures[other].at(places)
    return gap_of(ours, theirs, Resampling(units_of(rows), seed=seed))


def _trusted_gap(answers: Answers, new: Sequence[Example], seed: int) -> Gap | None:
    rows = [row for row in new if trusted(row)]
    return _gap(answers, CHAMPION, rows, answers.places(rows), seed) if rows else None
