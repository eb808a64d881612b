"""Held-out evaluation: the adapter against its own base, on the same rows, with intervals.

The base's exact match is mostly a matter of format, so it is given fairer chances too: where the answers
are labels, its choice among them by likelihood and the first label it names; worked examples in its prompt
where they are asked for. The most frequent label and a plain classifier on the same training rows are what
every classifier must clear. `turnout evaluate` judges any versions, and says more.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapters.manifest import Difference, Evaluation, Score
from training.data.rows import Example
from training.data.splits import Splits
from training.evaluation.answers import batches, generate, likelihoods
from training.evaluation.baselines import draw_shots, majority, plain_classifier
from training.evaluation.calibration import chances
from training.evaluation.figures import Array, Figure
from training.evaluation.judged import Judged, Task, figures_of
from training.evaluation.metrics import labels_of, named_label
from training.evaluation.prompts import fits, label_endings, prompt_with, room_for, wanted_ending
from training.evaluation.resampling import Resampling, difference, interval
from training.fitting.model import Base
from training.fitting.room import in_parts
from training.fitting.template import Template
from training.progress import Progress

BATCH = 32
BASE_LABEL_TOKENS = 32
FEW_ROWS = 100
FREE_METRICS = ("exact_match", "token_f1")
OF_ADAPTER = frozenset({"precision", "recall", "ece", "brier"})
"""Said of the adapter alone, so that a card stays readable; `turnout evaluate` says all of every system."""


def evaluate(
    model: Any,
    base: Base,
    template: Template,
    splits: Splits,
    *,
    metrics: Sequence[str] | None,
    shots: int,
    alone: bool = False,
    max_answer_tokens: int,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Judge the adapter, and unless `alone` its base, on the test rows; answers end at `max_answer_tokens`.

    `metrics` are names in `training.evaluation.metrics.METRICS`; by default accuracy and macro F1 for labels,
    and exact match and word overlap otherwise. `shots` are worked examples that the base is given in one
    more form, 0 for none. Loss and perplexity are those of the wanted answers. Rows that are longer than the
    context window are left out, and counted in the note.

    Raises:
        ValueError: no test row is within the context window.
    """
    labels = labels_of([example.completion for example in splits.train])
    names = tuple(metrics or (("accuracy", "precision", "recall", "f1") if labels else FREE_METRICS))
    room = room_for(template, splits.train, max_answer_tokens)
    longest_answer = max(room, BASE_LABEL_TOKENS) if labels else room
    fitting = tuple(
        row for row in splits.test if fits(template, row, room=longest_answer, most=base.max_position)
    )
    if not fitting:
        raise ValueError(f"no test row is within the context window of {base.max_position} tokens")
    left_out, splits = len(splits.test) - len(fitting), replace(splits, test=fitting)
    task = Task(tuple(row.completion for row in splits.test), labels, names)
    ask = _Asker(model, base, template, rows=splits.test, labels=labels, progress=progress)
    longest = max(len(template.answer_ids(example.completion)) for example in splits.train)
    judged = [ask.whole("adapter", room)]
    if not alone:
        with model.disable_adapter():
            free = ask.whole("base", longest_answer)
            judged += [free, *(_on_labels(free, labels) if labels else [])]
            if shots:
                taken = draw_shots(splits.train, shots, seed=seed, draw=0)
                judged.append(ask.with_examples(f"base-{shots}-shot", taken, room))
    if labels:
        judged += _without_a_model(splits, labels, seed, progress)
    cut = room if room < longest else None
    return _evaluation(judged, task, seed=seed, note=_note(len(splits.test), cut, left_out))


class _Asker:
    """Asks one model the test rows' prompts."""

    def __init__(
        self,
        model: Any,
        base: Base,
        template: Template,
        *,
        rows: Sequence[Example],
        labels: Sequence[str],
        progress: Progress,
    ) -> None:
        self._model = model
        self._base = base
        self._template = template
        self._rows = rows
        self._labels = tuple(labels)
        self._progress = progress

    def whole(self, system: str, room: int) -> Judged:
        """Return greedy answers within `room` tokens, and how likely the wanted ones and the labels are."""
        answers = self._freely(system, room, ())
        values = self._likely(f"{system}, likelihoods", (), wanted=True)
        tokens = [len(self._wanted(row)) for row in self._rows]
        return Judged(
            system,
            "version" if system == "adapter" else "base",
            (answers,),
            nats=-values[:, 0],
            tokens=np.array(tokens, dtype=np.float64),
            chances=chances(values[:, 1:]) if self._labels else None,
        )

    def with_examples(self, system: str, shots: Sequence[Example], room: int) -> Judged:
        """Return the answers after worked examples: the likeliest label, or a free answer without labels."""
        if not self._labels:
            return Judged(system, "baseline", (self._freely(system, room, shots),))
        found = self._likely(system, shots, wanted=False)
        return Judged(system, "baseline", (_best(found, self._labels),))

    def _freely(self, system: str, room: int, shots: Sequence[Example]) -> tuple[str, ...]:
        with self._progress.stage(f"Judging the {system}", total=len(self._rows)) as stage:
            answers = generate(
                self._model,
                self._base.tokenizer,
                self._prompts(shots, room),
                max_new_tokens=room,
                batch_size=BATCH,
                on_rows=stage.advance,
            )
        return tuple(answers)

    def _likely(self, what: str, shots: Sequence[Example], *, wanted: bool) -> Array:
        """Return the log-likelihoods of the wanted answer, if it is asked for, and of each label."""
        prompts = self._prompts(shots, 0)
        labels = label_endings(self._template, self._labels)
        endings = [[*([self._wanted(row)] if wanted else []), *labels] for row in self._rows]
        lengths = [len(ids) + max(map(len, ends)) for ids, ends in zip(prompts, endings, strict=True)]
        found = np.zeros((len(prompts), len(endings[0])))
        self._model.eval()

        def ask(places: Sequence[int]) -> list[list[float]]:
            return likelihoods(
                self._model, [prompts[place] for place in places], [endings[place] for place in places]
            )

        with self._progress.stage(f"Judging the {what}", total=len(self._rows)) as stage:
            for batch in batches(lengths, BATCH):
                found[batch] = in_parts(ask, batch, longest=lengths[batch[0]])
                stage.advance(len(batch))
        return found

    def _wanted(self, row: Example) -> list[int]:
        return wanted_ending(self._template, row, most=self._base.max_position)

    def _prompts(self, shots: Sequence[Example], room: int) -> list[list[int]]:
        most = self._base.max_position
        return [prompt_with(self._template, row, shots, room=room, most=most) for row in self._rows]


def _on_labels(free: Judged, labels: Sequence[str]) -> list[Judged]:
    named = tuple(named_label(answer, labels) for answer in free.draws[0])
    if free.chances is None:
        raise ValueError("labels were not asked for")
    return [
        Judged("base-lenient", "baseline", (named,)),
        Judged("base-constrained", "baseline", (_best(free.chances, labels),)),
    ]


def _without_a_model(splits: Splits, labels: Sequence[str], seed: int, progress: Progress) -> list[Judged]:
    found = [Judged("majority", "baseline", (majority(splits.train, len(splits.test)),))]
    try:
        with progress.stage("Judging a plain classifier"):
            answers, _ = plain_classifier(splits.train, splits.test, labels, seed=seed)
    except (ImportError, ValueError):
        return found
    return [*found, Judged("tf-idf", "baseline", (answers,))]


def _best(values: Array, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels[int(best)] for best in values.argmax(axis=1))


def _evaluation(judged: Sequence[Judged], task: Task, *, seed: int, note: str | None) -> Evaluation:
    rows = len(task.wanted)
    draws = Resampling(rows, seed=seed)
    figures = {each.system: _said_of(each, task) for each in judged}
    ours = figures["adapter"]
    scores: list[Score] = []
    differences: list[Difference] = []
    for name in dict.fromkeys(name for found in figures.values() for name in found):
        for system, found in figures.items():
            if name not in found:
                continue
            here = interval(found[name], draws)
            scores.append(
                Score(system=system, metric=name, value=here.value, low=here.low, high=here.high, rows=rows)
            )
            if system != "adapter" and name in ours:
                gap = difference(ours[name], found[name], draws)
                differences.append(
                    Difference(
                        against=system, metric=name, value=gap.value, low=gap.low, high=gap.high, rows=rows
                    )
                )
    return Evaluation(rows=rows, scores=tuple(scores), differences=tuple(differences), note=note)


def _said_of(judged: Judged, task: Task) -> dict[str, Figure]:
    """Return the figures for a manifest: none of single classes, and some of the adapter alone."""
    return {
        name: figure
        for name, figure in figures_of(judged, task).items()
        if ":" not in name
        and name != "answer_chars"
        and (judged.system == "adapter" or name not in OF_ADAPTER)
    }


def _note(rows: int, cut: int | None, left_out: int) -> str | None:
    notes = [f"only {rows} test rows: the intervals are wide"] if rows < FEW_ROWS else []
    if left_out:
        notes.append(f"{left_out} test rows are longer than the context window and were left out")
    if cut is not None:
        notes.append(f"answers are cut at {cut} tokens, below the longest that was trained on")
    return "; ".join(notes) or None
