"""What an adapter must beat: the commonest answer, a plain classifier, worked examples for the base model."""

import random
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.data.rows import Example
from training.evaluation.figures import Array

SHOT_CHARS = 600
"""Longer rows are no worked examples, unless there are none shorter: they fill the prompt."""

FOLDS = 5
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The inverse regularisations among which the plain classifier's is chosen."""

MAX_ROUNDS = 2000
WORDS = r"(?u)\b\w+\b|[^\w\s]"
"""Single letters and signs are words too: rows may have little else."""


def majority(train: Sequence[Example], rows: int) -> tuple[str, ...]:
    """Return the commonest answer of the training rows, for every row.

    Raises:
        ValueError: there are no training rows.
    """
    if not train:
        raise ValueError("without training rows no answer is the commonest")
    # Of equally common ones the first by name, so that the order of the rows does not matter.
    counts = Counter(row.completion for row in train)
    return (min(counts, key=lambda answer: (-counts[answer], answer)),) * rows


def draw_shots(train: Sequence[Example], count: int, *, seed: int, draw: int) -> tuple[Example, ...]:
    """Draw worked examples from the training rows, each answer equally often where few answers exist.

    Draw `draw` is the same for the same rows in whatever order, count and seed.
    """
    short = [row for row in train if len(row.key) + len(row.completion) <= SHOT_CHARS] or list(train)
    pool = sorted(short, key=lambda row: (row.key, row.completion))
    generator = random.Random(f"{seed}/{draw}")  # noqa: S311 - reproducible, not secret
    generator.shuffle(pool)
    taken: list[Example] = []
    used: Counter[str] = Counter()
    for _ in range(min(count, len(pool))):
        row = min(pool, key=lambda candidate: used[candidate.completion])
        pool.remove(row)
        used[row.completion] += 1
        taken.append(row)
    generator.shuffle(taken)
    return tuple(taken)


def plain_classifier(
    train: Sequence[Example], rows: Sequence[Example], labels: Sequence[str], *, seed: int
) -> tuple[tuple[str, ...], Array]:
    """Return the answers of logistic regression on TF-IDF of words and pairs of words, and its probabilities.

    How strongly it is regularised is chosen by cross-validation inside the training rows, with the words
    counted anew in each fold. Probabilities have the columns of `labels`; 0 where a label was not seen.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: the training rows have fewer than two different answers.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - only classification needs it
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GridSearchCV, StratifiedKFold  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    answers = [row.completion for row in train]
    scarcest = min(Counter(answers).values(), default=0)
    if len(set(answers)) < 2:
        raise ValueError("a classifier needs training rows with at least two different answers")
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS),
        LogisticRegression(max_iter=MAX_ROUNDS),
    )
    if scarcest >= 2:
        folds = StratifiedKFold(min(FOLDS, scarcest), shuffle=True, random_state=seed)
        grid = {"logisticregression__C": list(STRENGTHS)}
        model = GridSearchCV(model, grid, cv=folds, scoring="accuracy")
    with warnings.catch_warnings():
        # One that has not quite converged is a little worse, and no reason to stop an evaluation.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit([plain_text(row) for row in train], answers)
    found = model.predict_proba([plain_text(row) for row in rows])
    known = [str(label) for label in model.classes_]
    chances = np.zeros((len(rows), len(labels)))
    for column, label in enumerate(labels):
        if label in known:
            chances[:, column] = found[:, known.index(label)]
    return tuple(known[int(best)] for best in found.argmax(axis=1)), chances


def plain_text(row: Example) -> str:
    """Return what a plain classifier reads: all messages, without who wrote them."""
    return "\n".join(message["content"] for message in row.messages)
