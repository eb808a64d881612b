"""Held-out evaluation: the adapter against its own base, on the same rows, with intervals.

The base's exact match is mostly a matter of format, so it is given fairer chances too: where the answers
are labels, its choice among them by likelihood and the first label it names; elsewhere, worked examples
in its prompt. The most frequent label is the floor that every classifier must clear.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.manifest import Difference, Evaluation, Score
from training.data.rows import Example
from training.data.splits import Splits
from training.evaluation.answers import choose, generate
from training.evaluation.resampling import interval, paired_difference
from training.evaluation.metrics import METRICS, Counts, labels_of, named_label
from training.fitting.model import Base
from training.fitting.template import Template
from training.progress import Progress

BATCH = 32
BASE_LABEL_TOKENS = 32
FEW_ROWS = 100
SHOT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers of one system to the test rows, in their order."""

    system: str
    answers: tuple[str, ...]


def evaluate(
    model: Any,
    base: Base,
    template: Template,
    splits: Splits,
    *,
    metrics: Sequence[str] | None,
    shots: int,
    max_answer_tokens: int,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Judge the adapter and its base on the test rows, with answers cut at `max_answer_tokens`.

    `metrics` are names in `training.evaluation.metrics.METRICS`; by default accuracy for labels, and exact
    match and word overlap otherwise. `shots` are the worked examples that the base is given where there are
    no labels.
    """
    labels = labels_of([example.completion for example in splits.train])
    names = tuple(metrics or (("accuracy",) if labels else ("exact_match", "token_f1")))
    ask = _Asker(model, base, template, splits.test, progress)
    longest = max(len(template.answer_ids(example.completion)) for example in splits.train)
    room = min(max_answer_tokens, longest + longest // 2 + 8)
    systems = [Judged("adapter", ask.freely("adapter", room))]
    with model.disable_adapter():
        if labels:
            systems += _base_on_labels(ask, splits, labels, room)
        else:
            systems.append(Judged("base", ask.freely("base", room)))
            if shots:
                taken = _shots(splits.train, shots)
                systems.append(Judged(f"base-{shots}-shot", ask.freely(f"base, {shots} shots", room, taken)))
    cut = room if room < longest else None
    return _figures(systems, splits.test, names, seed=seed, note=_note(len(splits.test), cut))


class _Asker:
    """Asks one model the test rows' prompts."""

    def __init__(
        self, model: Any, base: Base, template: Template, rows: Sequence[Example], progress: Progress
    ) -> None:
        self._model = model
        self._tokenizer = base.tokenizer
        self._template = template
        self._rows = rows
        self._progress = progress

    def _prompts(self, shots: Sequence[Example] = ()) -> list[list[int]]:
        return [self._template.prompt_ids(self._template.messages(row, shots)) for row in self._rows]

    def freely(self, what: str, room: int, shots: Sequence[Example] = ()) -> tuple[str, ...]:
        """Return greedy answers of at most `room` tokens."""
        with self._progress.stage(f"Judging the {what}", total=len(self._rows)) as stage:
            answers = generate(
                self._model,
                self._tokenizer,
                self._prompts(shots),
                max_new_tokens=room,
                batch_size=BATCH,
                on_rows=stage.advance,
            )
        return tuple(answers)

    def among(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the most likely label for each row."""
        with self._progress.stage("Judging the base on labels", total=len(self._rows)) as stage:
            chosen = choose(
                self._model,
                self._prompts(),
                [self._template.answer_ids(label) for label in labels],
                batch_size=BATCH,
                on_rows=stage.advance,
            )
        return tuple(labels[number] for number in chosen)


def _base_on_labels(ask: _Asker, splits: Splits, labels: Sequence[str], room: int) -> list[Judged]:
    free = ask.freely("base", max(room, BASE_LABEL_TOKENS))
    common = Counter(example.completion for example in splits.train).most_common(1)[0][0]
    return [
        Judged("base", free),
        Judged("base-lenient", tuple(named_label(answer, labels) for answer in free)),
        Judged("base-constrained", ask.among(labels)),
        Judged("majority", (common,) * len(splits.test)),
    ]


def _shots(train: Sequence[Example], count: int) -> list[Example]:
    """Return the first short training rows with answers that differ, in the order of their hashes."""
    taken: dict[str, Example] = {}
    for example in train:
        if len(example.key) <= SHOT_CHARS:
            taken.setdefault(example.completion, example)
        if len(taken) == count:
            break
    return list(taken.values())


def _figures(
    systems: Sequence[Judged],
    rows: Sequence[Example],
    names: Sequence[str],
    *,
    seed: int,
    note: str | None,
) -> Evaluation:
    scores: list[Score] = []
    differences: list[Difference] = []
    for name in names:
        counted = {judged.system: _count(judged, rows, name) for judged in systems}
        for system, counts in counted.items():
            found = interval(counts, seed=seed)
            scores.append(
                Score(
                    system=system,
                    metric=name,
                    value=found.value,
                    low=found.low,
                    high=found.high,
                    rows=len(rows),
                )
            )
            if system != "adapter":
                gap = paired_difference(counted["adapter"], counts, seed=seed)
                differences.append(
                    Difference(
                        against=system,
                        metric=name,
                        value=gap.value,
                        low=gap.low,
                        high=gap.high,
                        rows=len(rows),
                    )
                )
    return Evaluation(rows=len(rows), scores=tuple(scores), differences=tuple(differences), note=note)


def _note(rows: int, cut: int | None) -> str | None:
    notes = [f"only {rows} test rows: the intervals are wide"] if rows < FEW_ROWS else []
    if cut is not None:
        notes.append(f"answers are cut at {cut} tokens, below the longest that was trained on")
    return "; ".join(notes) or None


def _count(judged: Judged, rows: Sequence[Example], name: str) -> list[Counts]:
    metric = METRICS[name]
    return [metric(answer, row.completion) for answer, row in zip(judged.answers, rows, strict=True)]
