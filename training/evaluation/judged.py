"""What systems said to the held-out rows, what was wanted of them, and the figures that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from training.data.rows import Example
from training.evaluation.asking import is_text
from training.evaluation.calibration import calibration_figures
from training.evaluation.classes import KINDS, class_figures
from training.evaluation.figures import Array, Figure, counted, mean, perplexities, pooled
from training.evaluation.metrics import METRICS, entity_f1, labels_of
from training.evaluation.schemas import Fits, all_json, is_json
from training.evaluation.texts import ROUGE, text_figures

Kind = Literal["version", "base", "baseline"]
OF_TEXTS = ("loss",)
"""The metrics of a task without prompts and answers; perplexity is reported beside it."""
TEXTS = (*ROUGE, "bleu", "chrf")
CHOOSABLE = (*METRICS, *KINDS, "json", "schema", *TEXTS)
"""The names that `--metric` takes. Loss, calibration and length are reported wherever they are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One system's answers to the rows, in their order; several draws of them for one that was drawn.

    `nats` and `tokens` are those of the wanted answers under it, `chances` its probabilities of the labels.
    """

    system: str
    kind: Kind
    draws: tuple[tuple[str, ...], ...]
    nats: Array | None = None
    tokens: Array | None = None
    chances: Array | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What the rows want: answers, the labels if those are labels, and the metrics, the main one first."""

    wanted: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    fits: Fits | None = None

    @property
    def primary(self) -> str:
        """The metric that verdicts and slices go by."""
        return self.metrics[0]


def task_of(
    rows: Sequence[Example],
    train: Sequence[Example],
    metrics: Sequence[str] | None = None,
    fits: Fits | None = None,
) -> Task:
    """Recognise the task by its answers; `metrics` are taken instead of the ones that would be chosen.

    Raises:
        ValueError: a metric is not known, or needs answers, labels or a schema that are not there.
    """
    if all(is_text(row) for row in rows):
        if metrics or fits:
            raise ValueError("texts are judged by their loss alone: leave --metric and --schema out")
        return Task(tuple(row.completion for row in rows), (), OF_TEXTS)
    wanted = tuple(row.completion for row in rows)
    labels = labels_of([row.completion for row in train] if train else wanted)
    names = tuple(dict.fromkeys(metrics or _chosen(wanted, labels, fits)))
    for name in names:
        if name not in CHOOSABLE:
            raise ValueError(f"--metric {name} is not known; there are {', '.join(CHOOSABLE)}")
        if name in KINDS and not labels:
            raise ValueError(f"--metric {name} needs answers that are labels, each seen often")
        if name == "schema" and fits is None:
            raise ValueError("--metric schema needs --schema FILE")
    return Task(wanted, labels, names, fits)


def figures_of(judged: Judged, task: Task) -> dict[str, Figure]:
    """Return every figure that is known of a system, the task's own metrics first."""
    by_draw = [_figures_of_answers(answers, task) for answers in judged.draws]
    found = {name: pooled([figures[name] for figures in by_draw]) for name in by_draw[0]}
    if judged.chances is not None and task.labels:
        for figure in calibration_figures(judged.chances, task.wanted, task.labels):
            found[figure.metric] = figure
    if judged.nats is not None and judged.tokens is not None:
        for figure in perplexities(judged.nats, judged.tokens):
            found[figure.metric] = figure
    if task.metrics == OF_TEXTS:
        return found
    lengths = [mean("answer_chars", [float(len(text)) for text in draw]) for draw in judged.draws]
    return {**found, "answer_chars": pooled(lengths)}


def _chosen(wanted: Sequence[str], labels: Sequence[str], fits: Fits | None) -> list[str]:
    if labels:
        return ["accuracy", *KINDS]
    schema = ["schema"] if fits else []
    if all_json(wanted):
        entities = ["entity_f1"] if any(entity_f1("", text).denominator for text in wanted) else []
        return [*entities, "exact_match", "valid_json", "json", *schema]
    return ["token_f1", "exact_match", *schema, *TEXTS]


def _figures_of_answers(answers: Sequence[str], task: Task) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    if set(KINDS).intersection(task.metrics):
        found |= _by_metric(class_figures(answers, task.wanted, task.labels), task.metrics)
    if set(TEXTS).intersection(task.metrics):
        found |= _by_metric(text_figures(answers, task.wanted), task.metrics)
    pairs = list(zip(answers, task.wanted, strict=True))
    for name in task.metrics:
        if name in METRICS:
            found[name] = counted(name, [METRICS[name](answer, right) for answer, right in pairs])
        elif name == "json":
            found[name] = mean(name, [float(is_json(answer)) for answer in answers])
        elif name == "schema" and task.fits is not None:
            found[name] = mean(name, [float(task.fits(answer)) for answer in answers])
    return {name: found[name] for name in _ordered(found, task.metrics)}


def _by_metric(figures: Sequence[Figure], metrics: Sequence[str]) -> dict[str, Figure]:
    """Return the wanted ones; a class's own figures are wanted with the average."""
    return {figure.metric: figure for figure in figures if figure.metric.partition(":")[0] in metrics}


def _ordered(found: Mapping[str, Figure], metrics: Sequence[str]) -> list[str]:
    first = [name for name in metrics if name in found]
    return [*first, *(name for name in found if name not in metrics)]
