"""What a figure is: sums over rows, and how the sums become one number.

Accuracy is a sum over a count, macro F1 a function of the sums of a confusion table, BLEU one of n-gram
counts. With every figure in this form one resampling serves all of them, row by row or cluster by cluster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Counts

Array = NDArray[np.float64]
Finish = Callable[[Array], Array]
"""Sums (…, k) to values (…)."""

Unit = Literal["share", "nats", "ratio", "characters"]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is known of a metric by its name. `better` is None where neither way is."""

    name: str
    title: str
    better: Literal["higher", "lower"] | None = "higher"
    unit: Unit = "share"


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "accuracy"),
        Measure("exact_match", "exact match"),
        Measure("token_f1", "word F1"),
        Measure("entity_f1", "entity F1"),
        Measure("valid_json", "JSON with the wanted keys"),
        Measure("json", "valid JSON"),
        Measure("schema", "JSON that fits the schema"),
        Measure("precision", "precision (macro)"),
        Measure("recall", "recall (macro)"),
        Measure("f1", "F1 (macro)"),
        Measure("rouge1", "ROUGE-1"),
        Measure("rouge2", "ROUGE-2"),
        Measure("rougeL", "ROUGE-L"),
        Measure("bleu", "BLEU"),
        Measure("chrf", "chrF"),
        Measure("ece", "calibration error", "lower"),
        Measure("brier", "Brier score", "lower", "ratio"),
        Measure("loss", "loss", "lower", "nats"),
        Measure("perplexity", "perplexity", "lower", "ratio"),
        Measure("answer_chars", "answer length", None, "characters"),
    )
}


def measure_of(metric: str) -> Measure:
    """Return what is known of a metric; `f1:spam` is the F1 of the class `spam`."""
    name, _, label = metric.partition(":")
    known = MEASURES[name]
    if not label:
        return known
    return Measure(metric, f"{known.title.removesuffix(' (macro)')} of {label}", known.better, known.unit)


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One system's figure: `table` has a line of k numbers for each row, `finish` takes their sums.

    `binary` says that every row is a success or a failure, which allows exact bounds.
    """

    metric: str
    table: Array
    finish: Finish
    binary: bool = False

    @property
    def value(self) -> float:
        """The figure on all rows."""
        return float(self.finish(self.table.sum(axis=0)))

    def at(self, places: NDArray[np.int64]) -> "Figure":
        """Return the figure of some of the rows."""
        return Figure(self.metric, self.table[places], self.finish, self.binary)


def ratio(sums: Array) -> Array:
    """Return the first sum over the second, and 0 where there is nothing to divide by."""
    top, bottom = sums[..., 0], sums[..., 1]
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def exp_ratio(sums: Array) -> Array:
    """Return e to the ratio: perplexity from nats and tokens."""
    raised: Array = np.exp(ratio(sums))
    return raised


def counted(metric: str, rows: Sequence[Counts]) -> Figure:
    """Return the figure of rows that are each a numerator and a denominator.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to judge by")
    table = np.array([(row.numerator, row.denominator) for row in rows], dtype=np.float64)
    whole = bool(np.all(table[:, 1] == 1) and np.all((table[:, 0] == 0) | (table[:, 0] == 1)))
    return Figure(metric, table, ratio, binary=whole)


def mean(metric: str, values: Sequence[float] | Array) -> Figure:
    """Return the figure that is the mean of one value a row."""
    return counted(metric, [Counts(float(value)) for value in values])


def perplexities(nats: Array, tokens: Array) -> tuple[Figure, Figure]:
    """Return loss (nats a token of the wanted answers) and perplexity, from each row's nats and tokens."""
    table = np.stack([nats, tokens], axis=1).astype(np.float64)
    return Figure("loss", table, ratio), Figure("perplexity", table, exp_ratio)


def pooled(figures: Sequence[Figure]) -> Figure:
    """Return one figure over several draws of the same system: the mean of their tables.

    For means that is the mean of the figures; for F1 or BLEU it is the figure of the pooled counts.

    Raises:
        ValueError: there is none, or they are of different metrics.
    """
    if not figures or len({figure.metric for figure in figures}) > 1:
        raise ValueError("only draws of one metric can be pooled")
    first = figures[0]
    if len(figures) == 1:
        return first
    tables = np.mean([figure.table for figure in figures], axis=0)
    return Figure(first.metric, tables, first.finish, binary=False)
