"""Ratings of two windows."""

from typing import Literal

import pytest

from gateway.core.routes import Metric
from gateway.store.feedback import FeedbackRow
from monitoring.feedback import FeedbackVerdict, compare, ratings


def _rating(request_id: str, value: bool | float | str, metric: str = "thumbs") -> FeedbackRow:
    return FeedbackRow(request_id, "support", "support@1", None, metric, value, None, "key")


def _ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("good_before", "good_now", "n", "better", "verdict"),
    [
        (90, 60, 100, "higher", FeedbackVerdict.WORSE),
        (60, 90, 100, "higher", FeedbackVerdict.BETTER),
        (60, 90, 100, "lower", FeedbackVerdict.WORSE),
        (80, 78, 100, "higher", FeedbackVerdict.NO_CHANGE),
        (19, 0, 19, "higher", FeedbackVerdict.TOO_LITTLE_DATA),
    ],
)
def test_verdicts_on_rates(
    good_before: int, good_now: int, n: int, better: Literal["higher", "lower"], verdict: FeedbackVerdict
) -> None:
    """A verdict needs enough ratings, an interval clear of zero, and the metric's good direction."""
    before, now = _ids("a", n), _ids("b", n)
    given = {
        "thumbs": {
            **{request_id: number < good_before for number, request_id in enumerate(before)},
            **{request_id: number < good_now for number, request_id in enumerate(now)},
        }
    }
    figures = compare(given, before, now, metrics={"thumbs": Metric(better=better)})
    assert figures.verdict is verdict
    assert figures.document()["verdict"] == str(verdict)


def test_numbers_are_compared_by_their_means() -> None:
    """Stars from one to five fall from four to three."""
    before, now = _ids("a", 40), _ids("b", 40)
    given = {
        "stars": {
            **{request_id: 3 + number % 3 for number, request_id in enumerate(before)},
            **{request_id: 2 + number % 3 for number, request_id in enumerate(now)},
        }
    }
    metric = compare(given, before, now, metrics={}).metrics["stars"]
    assert (metric.kind, metric.verdict) == ("mean", FeedbackVerdict.WORSE)
    assert metric.difference is not None
    assert metric.difference.value == pytest.approx(-1, abs=0.1)


def test_no_ratings_are_too_little_data() -> None:
    """A route that nobody rates has no metrics and says so."""
    figures = compare({}, _ids("a", 100), _ids("b", 100), metrics={})
    assert figures.document() == {"verdict": "too_little_data", "metrics": {}}


def test_more_metrics_need_more_evidence() -> None:
    """The confidence of each interval grows with the number of metrics."""
    before, now = _ids("a", 30), _ids("b", 30)
    one = {"thumbs": dict.fromkeys([*before, *now], True)}
    two = {**one, "solved": one["thumbs"]}
    assert compare(one, before, now, metrics={}).metrics["thumbs"].confidence == pytest.approx(0.95)
    assert compare(two, before, now, metrics={}).metrics["thumbs"].confidence == pytest.approx(0.975)


def test_newest_rating_counts_and_words_do_not() -> None:
    """A second rating replaces the first, an answer's id leads to its request, strings are left out."""
    rows = [
        _rating("req-1", True),
        _rating("chatcmpl-1", False),
        _rating("req-2", "Bonjour", metric="demonstration"),
        _rating("req-2", 4, metric="stars"),
    ]
    assert ratings(rows, {"chatcmpl-1": "req-1"}) == {"thumbs": {"req-1": False}, "stars": {"req-2": 4}}
