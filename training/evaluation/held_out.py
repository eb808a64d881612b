"""Judge an adapter on held-out rows of any kind, beside its base, in the run that trained it.

Examples are judged by their answers (`training.evaluation.evaluate`). The other kinds are judged by
likelihood: of two answers, whether the better one is likelier; of a rated one, whether it was made likelier
than the base model finds it when it was liked, and less likely when not; of texts, the loss.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch

from adapters.manifest import Difference, Evaluation, Score
from training.data.rows import Example, Preference, Rated, Row, Text
from training.data.splits import Splits
from training.evaluation.bootstrap import Interval, interval, paired_difference
from training.evaluation.evaluate import FEW_ROWS, evaluate
from training.evaluation.metrics import Counts
from training.fitting.model import Base
from training.fitting.template import Template
from training.fitting.unpacking import unpacked_while_judged
from training.progress import Progress, Stage


def judge(
    model: Any,
    base: Base,
    template: Template,
    splits: Splits[Row],
    *,
    metrics: Sequence[str] | None,
    shots: int,
    alone: bool = False,
    max_answer_tokens: int,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Return the figures of adapter and base on the test rows; the last six are for examples only."""
    with unpacked_while_judged(model):
        if all(isinstance(row, Example) for row in splits.test):
            return evaluate(
                model,
                base,
                template,
                cast("Splits", splits),
                metrics=metrics,
                shots=shots,
                alone=alone,
                max_answer_tokens=max_answer_tokens,
                seed=seed,
                progress=progress,
            )
        return _by_likelihood(model, base, template, splits.test, seed=seed, progress=progress)


def _by_likelihood(
    model: Any, base: Base, template: Template, rows: Sequence[Row], *, seed: int, progress: Progress
) -> Evaluation:
    model.eval()
    with progress.stage("Judging the adapter", total=len(rows)) as stage:
        own = _heard(model, template, rows, base.max_position, stage)
    with progress.stage("Judging the base", total=len(rows)) as stage, model.disable_adapter():
        theirs = _heard(model, template, rows, base.max_position, stage)
    note = f"only {len(rows)} test rows: the intervals are wide" if len(rows) < FEW_ROWS else None
    return figures(rows, own, theirs, seed=seed, note=note)


Heard = list[tuple[float, int]]
"""The log-likelihood of each text that belongs to a row, and its number of tokens."""


def figures(
    rows: Sequence[Row], own: Sequence[Heard], theirs: Sequence[Heard], *, seed: int, note: str | None
) -> Evaluation:
    """Return the evaluation that likelihoods of the adapter and of its base give."""
    name = _metric(rows[0])
    if name == "moved_rightly":
        counts = [
            Counts(float((_mean(mine[0]) > _mean(before[0])) == _liked(row)))
            for row, mine, before in zip(rows, own, theirs, strict=True)
        ]
        scores = (_score("adapter", name, interval(counts, seed=seed), len(rows)),)
        return Evaluation(rows=len(rows), scores=scores, note=note)
    count = _preferred if name == "preferred" else _loss
    ours, base = [count(heard) for heard in own], [count(heard) for heard in theirs]
    gap = paired_difference(ours, base, seed=seed)
    return Evaluation(
        rows=len(rows),
        scores=(
            _score("adapter", name, interval(ours, seed=seed), len(rows)),
            _score("base", name, interval(base, seed=seed), len(rows)),
        ),
        differences=(
            Difference(
                against="base", metric=name, value=gap.value, low=gap.low, high=gap.high, rows=len(rows)
            ),
        ),
        note=note,
    )


def _metric(row: Row) -> str:
    return {Preference: "preferred", Rated: "moved_rightly", Text: "loss"}[type(row)]


def _mean(heard: tuple[float, int]) -> float:
    """Return the log-likelihood a token: a longer answer is not worse for being longer."""
    return heard[0] / heard[1]


def _liked(row: Row) -> bool:
    return isinstance(row, Rated) and row.liked


def _preferred(heard: Heard) -> Counts:
    chosen, rejected = heard
    return Counts(float(_mean(chosen) > _mean(rejected)))


def _loss(heard: Heard) -> Counts:
    total, tokens = heard[0]
    return Counts(-total, tokens)


def _score(system: str, metric: str, found: Interval, rows: int) -> Score:
    return Score(system=system, metric=metric, value=found.value, low=found.low, high=found.high, rows=rows)


def _heard(
    model: Any, template: Template, rows: Sequence[Row], max_position: int, stage: Stage
) -> list[Heard]:
    found: list[Heard] = []
    for row in rows:
        found.append([_likelihood(model, *pair) for pair in _texts(template, row, max_position)])
        stage.advance()
    return found


def _texts(template: Template, row: Row, max_position: int) -> list[tuple[list[int], list[int]]]:
    """Return what is given and what is judged, as token ids, within the model's positions."""
    if isinstance(row, Text):
        ids = template.text_ids(row.text)[:max_position]
        return [(ids[:1], ids[1:])]
    prompt = template.prompt_ids(template.messages(row))
    answers = (row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion,)
    pairs = []
    for answer in answers:
        ids = template.ended(answer)[: max_position - 1]
        pairs.append((prompt[-(max_position - len(ids)) :], ids))
    return pairs


def _likelihood(model: Any, given: list[int], judged: list[int]) -> tuple[float, int]:
    """Return the log-likelihood of tokens after others. One by one: nothing is padded then."""
    if not judged:
        return 0.0, 1
    ids = torch.tensor([given + judged], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    seen = logits[len(given) - 1 : -1].float().log_softmax(-1)
    wanted = ids[0, len(given) :, None]
    return float(seen.gather(1, wanted).sum()), len(judged)
