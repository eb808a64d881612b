"""Whether probabilities are true: the expected calibration error, its reliability table, the Brier score.

The confidence of a row is the probability of its likeliest label. Ten bins of equal width (Naeini, Cooper
and Hauskrecht, AAAI 2015; Guo, Pleiss, Sun and Weinberger, ICML 2017). The error of a perfectly calibrated
system is above 0 on any finite number of rows. So what such a system would show on these very
confidences stands beside it (consistency resampling: Bröcker and Smith, Weather and Forecasting 22, 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.figures import Array, Figure, mean
from training.evaluation.metrics import normal

BINS = 10
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose confidence lies from `low` to `high`: how many, how sure, and how often right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a perfectly calibrated system with the same confidences would show: mean and 95th percentile."""

    mean: float
    high: float


def chances(log_likelihoods: Array) -> Array:
    """Return the probabilities of the labels (a column each) from their log-likelihoods."""
    apart = np.exp(log_likelihoods - log_likelihoods.max(axis=1, keepdims=True))
    shared: Array = apart / apart.sum(axis=1, keepdims=True)
    return shared


def calibration_figures(shares: Array, wanted: Sequence[str], labels: Sequence[str]) -> list[Figure]:
    """Return the expected calibration error and the Brier score (summed over labels, between 0 and 2)."""
    confidence, right = sureness(shares, wanted, labels)
    truth = _truth(wanted, labels)
    return [
        Figure("ece", binned(confidence, right), expected_error),
        mean("brier", ((shares - truth) ** 2).sum(axis=1)),
    ]


def sureness(shares: Array, wanted: Sequence[str], labels: Sequence[str]) -> tuple[Array, Array]:
    """Return each row's confidence, and 1 where its likeliest label is the wanted one."""
    truth = _truth(wanted, labels)
    best = shares.argmax(axis=1)
    rows = np.arange(len(shares))
    return shares[rows, best], truth[rows, best]


def binned(confidence: Array, right: Array) -> Array:
    """Return a line a row: for each bin 1 where the row is in it, its confidence, and whether it is right."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    table = np.zeros((len(confidence), 3 * BINS))
    rows = np.arange(len(confidence))
    table[rows, places] = 1
    table[rows, BINS + places] = confidence
    table[rows, 2 * BINS + places] = right
    return table


def expected_error(sums: Array) -> Array:
    """Return the distance between confidence and accuracy, averaged over the rows of all bins."""
    rows, confidence, right = np.split(sums, 3, axis=-1)
    total = rows.sum(axis=-1)
    apart: Array = np.abs(confidence - right).sum(axis=-1)
    found: Array = np.divide(apart, total, out=np.zeros_like(apart), where=total > 0)
    return found


def reliability(confidence: Array, right: Array) -> list[Bin]:
    """Return the bins that hold rows, from the least sure to the surest."""
    rows, sure, hits = np.split(binned(confidence, right).sum(axis=0), 3)
    return [
        Bin(
            place / BINS,
            (place + 1) / BINS,
            int(rows[place]),
            sure[place] / rows[place],
            hits[place] / rows[place],
        )
        for place in range(BINS)
        if rows[place]
    ]


def if_calibrated(confidence: Array, *, seed: int, draws: int = DRAWS) -> Calibrated:
    """Return the error that a perfectly calibrated system would show with these confidences."""
    generator = np.random.default_rng([seed, 2])
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    errors = np.empty(draws)
    for draw in range(draws):
        gaps = np.bincount(
            places, weights=confidence - (generator.random(len(confidence)) < confidence), minlength=BINS
        )
        errors[draw] = np.abs(gaps).sum() / len(confidence)
    return Calibrated(float(errors.mean()), float(np.quantile(errors, 0.95)))


def _truth(wanted: Sequence[str], labels: Sequence[str]) -> Array:
    place = {normal(label): number for number, label in enumerate(labels)}
    truth = np.zeros((len(wanted), len(labels)))
    for row, right in enumerate(wanted):
        if (number := place.get(normal(right))) is not None:
            truth[row, number] = 1
    return truth
