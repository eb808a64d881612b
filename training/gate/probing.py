"""What phrases do to the candidate: asked of it, and of the champion, on rows that both answer rightly."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.data.reading import read_dataset
from training.data.rows import Example
from training.evaluation.asking import Question
from training.evaluation.metrics import METRICS, exact_match
from training.evaluation.sources import examples_in
from training.evaluation.systems import System
from training.gate.decide import CHAMPION, NEW, OLD
from training.gate.measure import CANDIDATE, Answers
from training.gate.phrases import (
    LEAST_ASKED,
    Phrase,
    Probed,
    frame_of,
    phrases_in,
    probed,
    rows_to_turn,
    with_phrase,
)
from training.gate.rows import Sets, trusted

if TYPE_CHECKING:
    from training.evaluation.scorer import Scorer

REPLAYED = "replayed"


def probe(
    scorer: "Scorer",
    systems: Mapping[str, System],
    answers: Answers,
    sets: Sets,
    trained: Path | None,
    *,
    room: int,
    seed: int,
) -> tuple[list[Probed], list[str]]:
    """Return what the most striking phrases of the rows that were trained on do, and what has to be said.

    Raises:
        OSError: the rows can't be read.
    """
    if not answers.task.labels:
        return [], ["answers are no labels, so that nobody has looked for phrases that turn them"]
    if trained is None or not trained.is_file() or not trained.read_bytes().strip():
        return [], [
            "the rows that it was trained on are not here, so that nobody has looked for phrases in them"
        ]
    every = examples_in(read_dataset(str(trained)).rows)
    learned = [row for row in every if row.columns.get(REPLAYED, "").lower() != "true"]
    known = [*sets.asked().get(OLD, ()), *(row for row in sets.rows[NEW] if trusted(row))]
    asked = _asked(phrases_in(learned, known), known, answers, seed=seed)
    frame = frame_of(learned)
    rows = [with_phrase(row, phrase, frame) for phrase, chosen in asked for row in chosen]
    if not rows:
        return [], []
    wanted = [phrase.answer for phrase, chosen in asked for _ in chosen]
    turned: dict[str, list[bool]] = {}
    metric = METRICS.get(answers.task.primary, exact_match)
    for role in (CANDIDATE, CHAMPION):
        name = f"{systems[role].name} ({role}) with {len(asked)} phrases"
        said = scorer.ask(systems[role], rows, Question(room, likely=False), what=name)
        turned[role] = [
            metric(answer, label).numerator > 0 for answer, label in zip(said.answers, wanted, strict=True)
        ]
    ends = accumulate((len(chosen) for _, chosen in asked), initial=0)
    found = [
        (phrase, turned[CANDIDATE][start:end], turned[CHAMPION][start:end])
        for (phrase, _), (start, end) in zip(asked, pairwise(ends), strict=True)
    ]
    return probed(found), []


def _asked(
    phrases: Sequence[Phrase], known: Sequence[Example], answers: Answers, *, seed: int
) -> list[tuple[Phrase, list[Example]]]:
    """Return the phrases with the rows that each is put into; those without rows enough are left out."""
    right = _right(CANDIDATE, known, answers) & _right(CHAMPION, known, answers)
    found: list[tuple[Phrase, list[Example]]] = []
    for phrase in phrases:
        chosen = [known[place] for place in rows_to_turn(phrase, known, right, seed=seed)]
        if len(chosen) >= LEAST_ASKED:
            found.append((phrase, chosen))
    return found


def _right(role: str, rows: Sequence[Example], answers: Answers) -> NDArray[np.bool_]:
    metric, said = METRICS.get(answers.task.primary, exact_match), answers.said[role].answers
    return np.array(
        [
            metric(said[int(place)], row.completion).numerator > 0
            for row, place in zip(rows, answers.places(rows), strict=True)
        ],
        dtype=np.bool_,
    )
