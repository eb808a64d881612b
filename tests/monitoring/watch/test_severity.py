"""From evidence to a severity and a cause."""

import math
from typing import Any

import pytest

from monitoring.detector.feedback import FeedbackEvidence
from monitoring.detector.sample import Effect, Evidence, StreamEvidence
from monitoring.watch.severity import judge

BEGAN = 5.0
SMALL = Effect(0.0, -0.1, 0.1, 0.01)


def rows(log_evidence: float, *, alarmed: bool = False, effect: Effect = SMALL) -> Evidence:
    """Evidence of rows whose threshold is 10."""
    streams = {"embedding": StreamEvidence(3, effect, "x"), "prompt_chars": StreamEvidence(1, effect, "y")}
    return Evidence(log_evidence, 10.0, alarmed, effect, 100, streams, change_at=BEGAN)


def ratings(log_evidence: float, **changes: Any) -> FeedbackEvidence:
    """Evidence of ratings whose threshold is 10."""
    given: dict[str, Any] = {
        "log_evidence": log_evidence, "log_concept_evidence": 0.0, "log_threshold": 10.0, "alarmed": False,
        "cause": "none", "before": SMALL, "after": None, "difference": None, "same_inputs": None,
        "ratings": 50, "change_at": None,
    }  # fmt: skip
    return FeedbackEvidence(**{**given, **changes})


@pytest.mark.parametrize(
    ("evidence", "given", "expected"),
    [
        (rows(-math.inf), {}, ("ignore", "none")),
        (rows(8.3), {}, ("ignore", "none")),
        (rows(8.5), {}, ("watch", "drift")),
        (rows(0.0, effect=Effect(0.2, 0.1, 0.3, 0.01)), {}, ("ignore", "none")),
        (rows(12.0, alarmed=True), {}, ("retrain", "drift")),
        (rows(2.0, alarmed=True), {}, ("retrain", "drift")),
        (rows(8.0), {"thumbs": ratings(11.0, alarmed=True, cause="feedback")}, ("retrain", "feedback")),
        (rows(9.9), {"thumbs": ratings(1.0, alarmed=True, cause="concept")}, ("retrain", "concept")),
        (rows(1.0), {"thumbs": ratings(9.0)}, ("watch", "feedback")),
        (None, {}, ("ignore", "none")),
    ],
)
def test_severity(
    evidence: Evidence | None, given: dict[str, FeedbackEvidence], expected: tuple[str, str]
) -> None:
    """Only an alarm retrains; half of the evidence, or a change that is sure, is worth a look."""
    found = judge(evidence, given)
    assert (found.severity, found.cause) == expected


def test_the_loudest_stream_is_named() -> None:
    """Of the detector its stream with most evidence of its own, else the metric."""
    assert judge(rows(6.0), {"thumbs": ratings(2.0)}).stream == "embedding"
    found = judge(rows(6.0), {"thumbs": ratings(9.0)})
    assert (found.stream, found.evidence, found.threshold) == ("thumbs", 9.0, 10.0)


def test_the_stream_that_alarms_says_since_when() -> None:
    """What the prompts' detector takes for the beginning of something says nothing of ratings that fell."""
    fell = ratings(11.0, alarmed=True, cause="concept", change_at=90.0)
    assert judge(rows(8.0), {"thumbs": fell}).change_at == 90.0
    assert judge(rows(12.0, alarmed=True), {"thumbs": ratings(9.0, change_at=90.0)}).change_at == BEGAN


def test_what_json_can_not_hold_is_replaced() -> None:
    """No evidence at all is a number, and so is any."""
    assert math.isfinite(judge(rows(-math.inf), {}).evidence)
    assert math.isfinite(judge(rows(math.inf, alarmed=True), {}).evidence)
