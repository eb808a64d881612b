"""Precision, recall and F1 over classes, as figures that can be resampled."""

from collections.abc import Sequence

import numpy as np

from training.evaluation.figures import Array, Figure, Finish
from training.evaluation.metrics import normal

KINDS = ("precision", "recall", "f1")


def class_figures(answers: Sequence[str], wanted: Sequence[str], labels: Sequence[str]) -> list[Figure]:
    """Return precision, recall and F1, over all classes (`f1`) and for each (`f1:spam`).

    An answer that names no label counts as a miss for the wanted class and against no other. `f1` is
    the mean over the classes that are wanted or answered in the rows at hand, as scikit-learn's `macro` is.
    """
    table = confusion(answers, wanted, labels)
    figures = [Figure(kind, table, _macro(kind)) for kind in KINDS]
    for number, label in enumerate(labels):
        own = table[:, [number, len(labels) + number, 2 * len(labels) + number]]
        figures += [Figure(f"{kind}:{label}", own, _single(kind)) for kind in KINDS]
    return figures


def confusion(answers: Sequence[str], wanted: Sequence[str], labels: Sequence[str]) -> Array:
    """Return a line a row: for each label whether it was hit, answered wrongly, and missed."""
    place = {normal(label): number for number, label in enumerate(labels)}
    count = len(labels)
    table = np.zeros((len(wanted), 3 * count))
    for row, (answer, right) in enumerate(zip(answers, wanted, strict=True)):
        said, true = place.get(normal(answer)), place.get(normal(right))
        if said is not None and said == true:
            table[row, said] = 1
            continue
        if said is not None:
            table[row, count + said] = 1
        if true is not None:
            table[row, 2 * count + true] = 1
    return table


def _macro(kind: str) -> Finish:
    def finish(sums: Array) -> Array:
        hits, wrong, missed = np.split(sums, 3, axis=-1)
        values = _rates(kind, hits, wrong, missed)
        there = (hits + wrong + missed) > 0
        classes = there.sum(axis=-1)
        total: Array = (values * there).sum(axis=-1)
        found: Array = np.divide(total, classes, out=np.zeros_like(total), where=classes > 0)
        return found

    return finish


def _single(kind: str) -> Finish:
    def finish(sums: Array) -> Array:
        return _rates(kind, sums[..., 0], sums[..., 1], sums[..., 2])

    return finish


def _rates(kind: str, hits: Array, wrong: Array, missed: Array) -> Array:
    against = {"precision": hits + wrong, "recall": hits + missed, "f1": hits + (wrong + missed) / 2}[kind]
    return np.divide(hits, against, out=np.zeros_like(hits), where=against > 0)
