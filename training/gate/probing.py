"""What phrases do to the candidate: asked of it, and of the champion, on rows that it answers rightly."""

from collections.abc import Mapping, Sequence
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
    Turned,
    frame_of,
    looked_through,
    other_words,
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
        DataError: the rows that were trained on are faulty.
        OSError: they can't be read.
    """
    if not answers.task.labels:
        return [], ["answers are no labels, so that nobody has looked for phrases that turn them"]
    if trained is None or not trained.is_file() or not trained.read_bytes().strip():
        return [], [
            "the rows that it was trained on are not here, so that nobody has looked for phrases in them"
        ]
    every = examples_in(read_dataset(str(trained)).rows)
    new = [row for row in every if row.columns.get(REPLAYED, "").lower() != "true"]
    learned = looked_through(new, seed=seed)
    notes = []
    if len(learned) < len(new):
        notes.append(f"phrases were looked for in {len(learned):,} of {len(new):,} new rows, drawn at random")
    known = [*sets.asked().get(OLD, ()), *(row for row in sets.rows[NEW] if trusted(row))]
    frame = frame_of(learned)
    right = _right(known, answers)
    asked: list[tuple[Phrase, list[tuple[Example, Example]]]] = []
    for phrase in phrases_in(learned, known):
        chosen = [known[place] for place in rows_to_turn(phrase, known, right, seed=seed)]
        others = other_words(phrase, learned, frame, len(chosen), seed=seed)
        pairs = [
            (with_phrase(row, phrase, frame), with_phrase(row, other, frame))
            for row, other in zip(chosen, others, strict=False)  # no others where all rows have the phrase
        ]
        # A row that just fits the context window may not with more words in it.
        pairs = [pair for pair in pairs if all(scorer.fits(row, room) for row in pair)]
        if len(pairs) >= LEAST_ASKED:
            asked.append((phrase, pairs))
    rows: list[Example] = []
    wanted: list[str] = []
    for phrase, pairs in asked:
        rows += [*(one for one, _ in pairs), *(other for _, other in pairs)]
        wanted += [phrase.answer] * (2 * len(pairs))
    if not rows:
        return [], notes
    turned: dict[str, list[bool]] = {}
    metric = METRICS.get(answers.task.primary, exact_match)
    for role in (CANDIDATE, CHAMPION):
        name = f"{systems[role].name} ({role}) with phrases: {len(asked)}"
        said = scorer.ask(systems[role], rows, Question(room, likely=False), what=name)
        turned[role] = [
            metric(answer, label).numerator > 0 for answer, label in zip(said.answers, wanted, strict=True)
        ]
    found: list[tuple[Phrase, Turned]] = []
    start = 0
    for phrase, pairs in asked:
        middle, end = start + len(pairs), start + 2 * len(pairs)
        ours, theirs = turned[CANDIDATE], turned[CHAMPION]
        found.append(
            (phrase, Turned(ours[start:middle], ours[middle:end], theirs[start:middle], theirs[middle:end]))
        )
        start = end
    return probed(found), notes


def _right(rows: Sequence[Example], answers: Answers) -> NDArray[np.bool_]:
    """Return which rows the candidate answers rightly."""
    metric, said = METRICS.get(answers.task.primary, exact_match), answers.said[CANDIDATE].answers
    return np.array(
        [
            metric(said[int(place)], row.completion).numerator > 0
            for row, place in zip(rows, answers.places(rows), strict=True)
        ],
        dtype=np.bool_,
    )
