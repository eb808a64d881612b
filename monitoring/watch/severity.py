"""From evidence to a severity and a cause. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.store.drift import Cause, Severity
from monitoring.detector.feedback import FeedbackEvidence
from monitoring.detector.sample import Effect, Evidence

WATCHES_PER_ALARM = 5
"""Without a change, `watch` comes so many times as often as a false alarm: its threshold is so much lower."""

_LARGEST = 1e9
"""In place of what JSON can't hold."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look says. `evidence` and `threshold` are natural logarithms, of the stream that says most.

    `change_at` is when, by that stream, the change seems to have begun (seconds since the epoch), if it did.
    """

    severity: Severity
    cause: Cause
    stream: str
    evidence: float
    threshold: float
    effect: Effect | None
    change_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Voice:
    alarmed: bool
    cause: Cause
    stream: str
    evidence: float
    threshold: float
    effect: Effect | None
    change_at: float | None

    @property
    def nearness(self) -> float:
        return self.evidence - self.threshold


def judge(evidence: Evidence | None, ratings: Mapping[str, FeedbackEvidence]) -> Judgement:
    """Return what all streams say together: the one that alarmed, or else the one with most evidence.

    `retrain` needs an alarm, whose rate of false ones is stated. `watch` is near to that, at a stated rate
    too; `ignore` is everything else.
    """
    voices = [_of_rows(evidence)] if evidence is not None else []
    voices += [_of_ratings(name, found) for name, found in sorted(ratings.items())]
    if not voices:
        return Judgement("ignore", "none", "", 0.0, 0.0, None)
    loudest = max(voices, key=lambda voice: (voice.alarmed, voice.nearness))
    severity: Severity = "ignore"
    if loudest.alarmed:
        severity = "retrain"
    elif loudest.nearness >= -math.log(WATCHES_PER_ALARM):
        severity = "watch"
    return Judgement(
        severity,
        "none" if severity == "ignore" else loudest.cause,
        loudest.stream,
        loudest.evidence,
        loudest.threshold,
        loudest.effect,
        loudest.change_at,
    )


def leading(evidence: Evidence) -> str:
    """Return the stream with most evidence of its own."""
    if not evidence.streams:
        return "prompts"
    return max(sorted(evidence.streams), key=lambda name: finite(evidence.streams[name].log_evidence))


def share(evidence: float, threshold: float) -> float:
    """Return evidence as a share of an alarm's, at most 1; both are logarithms."""
    return math.exp(min(0.0, evidence - threshold))


def finite(number: float) -> float:
    """Return a number that JSON can hold."""
    if math.isnan(number):
        return 0.0
    return min(_LARGEST, max(-_LARGEST, number))


def _of_rows(evidence: Evidence) -> _Voice:
    return _Voice(
        evidence.alarmed,
        "drift",
        leading(evidence),
        finite(evidence.log_evidence),
        finite(evidence.log_threshold),
        evidence.effect,
        evidence.change_at,
    )


def _of_ratings(name: str, found: FeedbackEvidence) -> _Voice:
    return _Voice(
        found.alarmed,
        "concept" if found.cause == "concept" else "feedback",
        name,
        finite(found.log_evidence),
        finite(found.log_threshold),
        found.difference,
        found.change_at,
    )
