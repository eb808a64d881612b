"""Ratings of the reference against ratings of the current window. They have a verdict of their own.

A rating counts for the window of the request that it rates, whenever it came in. The intervals hold for
ratings that are independent of each other, and say nothing of requests that nobody rated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from gateway.core.routes import Metric
from gateway.store.feedback import FeedbackRow
from monitoring.rates import Estimate, difference_of_means, mean, newcombe, wilson

MIN_RATINGS = 20
CONFIDENCE = 0.95
_DEFAULT = Metric()

Ratings = dict[str, dict[str, bool | float]]
"""Metric → request id → the newest value."""


class FeedbackVerdict(StrEnum):
    """What the ratings say."""

    WORSE = "worse"
    BETTER = "better"
    NO_CHANGE = "no_change"
    TOO_LITTLE_DATA = "too_little_data"


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """One metric: ratings counted, and with enough of them the two estimates and current - reference."""

    verdict: FeedbackVerdict
    kind: Literal["rate", "mean"]
    better: Literal["higher", "lower"]
    reference_n: int
    current_n: int
    confidence: float
    reference: Estimate | None = None
    current: Estimate | None = None
    difference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class FeedbackFigures:
    """All metrics of a route."""

    metrics: dict[str, MetricFigures] = field(default_factory=dict)

    @property
    def verdict(self) -> FeedbackVerdict:
        """The worst news of any metric; `too_little_data` when no metric could be compared."""
        verdicts = {metric.verdict for metric in self.metrics.values()}
        for verdict in FeedbackVerdict:
            if verdict in verdicts:
                return verdict
        return FeedbackVerdict.TOO_LITTLE_DATA

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "verdict": str(self.verdict),
            "metrics": {
                name: {**asdict(metric), "verdict": str(metric.verdict)}
                for name, metric in self.metrics.items()
            },
        }


def ratings(rows: Sequence[FeedbackRow], answer_ids: Mapping[str, str]) -> Ratings:
    """Return the newest bool or number that each request got for each metric; strings are left out.

    `rows` are oldest first. `answer_ids` leads from an answer's id, which may stand in a rating, to the
    request's.
    """
    newest: Ratings = {}
    for row in rows:
        if isinstance(row.value, bool | int | float):
            request_id = answer_ids.get(row.request_id, row.request_id)
            newest.setdefault(row.metric, {})[request_id] = row.value
    return newest


def compare(
    given: Ratings,
    reference_ids: Sequence[str],
    current_ids: Sequence[str],
    *,
    metrics: Mapping[str, Metric],
    min_ratings: int = MIN_RATINGS,
    confidence: float = CONFIDENCE,
) -> FeedbackFigures:
    """Compare each metric between the windows; the confidence holds for all metrics together (Bonferroni)."""
    each = 1 - (1 - confidence) / max(1, len(given))
    figures = {}
    for name, values in sorted(given.items()):
        first = [values[request_id] for request_id in reference_ids if request_id in values]
        second = [values[request_id] for request_id in current_ids if request_id in values]
        if first or second:
            better = metrics.get(name, _DEFAULT).better
            figures[name] = _compare(first, second, better=better, min_ratings=min_ratings, confidence=each)
    return FeedbackFigures(figures)


def _compare(
    first: Sequence[bool | float],
    second: Sequence[bool | float],
    *,
    better: Literal["higher", "lower"],
    min_ratings: int,
    confidence: float,
) -> MetricFigures:
    is_rate = all(isinstance(value, bool) for value in (*first, *second))
    kind: Literal["rate", "mean"] = "rate" if is_rate else "mean"
    if min(len(first), len(second)) < min_ratings:
        return MetricFigures(
            FeedbackVerdict.TOO_LITTLE_DATA, kind, better, len(first), len(second), confidence
        )
    if is_rate:
        reference = wilson(int(sum(first)), len(first), confidence=confidence)
        current = wilson(int(sum(second)), len(second), confidence=confidence)
        difference = newcombe(reference, current)
    else:
        reference, current = mean(first, confidence=confidence), mean(second, confidence=confidence)
        difference = difference_of_means(first, second, confidence=confidence)
    return MetricFigures(
        _verdict(difference, better),
        kind,
        better,
        len(first),
        len(second),
        confidence,
        reference,
        current,
        difference,
    )


def _verdict(difference: Estimate, better: Literal["higher", "lower"]) -> FeedbackVerdict:
    if difference.low <= 0 <= difference.high:
        return FeedbackVerdict.NO_CHANGE
    rose = difference.low > 0
    return FeedbackVerdict.BETTER if rose == (better == "higher") else FeedbackVerdict.WORSE
