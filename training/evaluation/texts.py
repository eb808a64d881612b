"""ROUGE, BLEU and chrF of free answers, by rouge-score and sacrebleu, as figures that can be resampled.

All are between 0 and 1 here: sacrebleu's are divided by 100. ROUGE is the mean over rows (Lin, 2004); BLEU
(Papineni et al., 2002) and chrF (Popović, 2015) are of the whole set, from the sums of their n-gram counts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.figures import Array, Figure, mean

ROUGE = ("rouge1", "rouge2", "rougeL")


class LibraryMissing(ImportError):
    """A library that a metric needs is not installed."""


def text_figures(answers: Sequence[str], wanted: Sequence[str]) -> list[Figure]:
    """Return ROUGE-1, -2 and -L, BLEU and chrF.

    Raises:
        LibraryMissing: rouge-score or sacrebleu is not installed.
    """
    return [*rouge_figures(answers, wanted), *_sacrebleu_figures(answers, wanted)]


def rouge_figures(answers: Sequence[str], wanted: Sequence[str]) -> list[Figure]:
    """Return the F1 of ROUGE-1, -2 and -L, with stemming, as means over rows.

    Raises:
        LibraryMissing: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - it brings nltk
    except ImportError as error:
        raise LibraryMissing("rouge-score is not installed") from error
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = [scorer.score(right, answer) for answer, right in zip(answers, wanted, strict=True)]
    return [mean(kind, [row[kind].fmeasure for row in found]) for kind in ROUGE]


def _sacrebleu_figures(answers: Sequence[str], wanted: Sequence[str]) -> list[Figure]:
    try:
        from sacrebleu.metrics import BLEU, CHRF  # noqa: PLC0415 - only free answers need it
    except ImportError as error:
        raise LibraryMissing("sacrebleu is not installed") from error
    # An empty reference is no reference to it; one that can't be matched is.
    right = [text or " " for text in wanted]
    return [
        _of_library("bleu", BLEU(force=True), answers, right),
        _of_library("chrf", CHRF(), answers, right),
    ]


def _of_library(metric: str, library: Any, answers: Sequence[str], wanted: Sequence[str]) -> Figure:
    # What sacrebleu's own bootstrap uses: each row's counts, and the score of their sums.
    counts = library._extract_corpus_statistics(list(answers), [list(wanted)])  # noqa: SLF001 - there is no public way

    def finish(sums: Array) -> Array:
        lines = np.atleast_2d(sums)
        scores = [library._compute_score_from_stats(line.tolist()).score / 100 for line in lines]  # noqa: SLF001 - same
        values: Array = np.array(scores)
        return values if sums.ndim > 1 else values[0]

    return Figure(metric, np.array(counts, dtype=np.float64), finish)
