"""What a look found, as the document that the store keeps, `/admin/drift` shows and `/metrics` exports. Pure.

    {"rows": {"reference": 2000, "current": 340},
     "windows": {"reference": {"since", "until", "rows", "counted", "why"}, "current": {"since", "until"}},
     "streams": {"embedding": {"evidence", "region", "effect": {…}}, "prompt_chars": {…}, …},
     "detector": {"evidence", "threshold", "alarmed"},
     "ratings": {"thumbs": {"evidence", "concept_evidence", "threshold", "cause", "before": {…}, "after": {…},
                            "difference": {…}, "same_inputs": {…}, "ratings", "change_at"}},
     "stream": "embedding", "evidence": 3.1, "threshold": 11.5,
     "effect": {"value", "low", "high", "tolerance"},
     "severity": "ignore", "cause": "none", "change_at": null, "exhausted": false,
     "too_little": {"reason", "rows", "days", "need_rows", "need_days"}, "notes": ["…"]}

Evidence and thresholds are natural logarithms: each stream's own, the detector's of all of them averaged, and
without a name those of what says most. What does not apply is left out or null.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from monitoring.detector.feedback import FeedbackEvidence
from monitoring.detector.sample import Effect, Evidence, TooLittle
from monitoring.watch.basis import Basis
from monitoring.watch.references import Reference
from monitoring.watch.severity import Judgement, finite, share

Document = dict[str, Any]

WHY = {
    "promotion": "since the version got most of the traffic",
    "pinned": "of the period that was given",
    "alarm": "since the last alarm",
    "exhausted": "since the reference before it was used up",
}


def missing(basis: Basis, lacking: TooLittle, *, notes: tuple[str, ...] = ()) -> Document:
    """Return the figures of a route that has no reference yet."""
    return {
        "rows": {"reference": lacking.rows, "current": 0},
        "windows": {"reference": {"since": basis.since, "until": basis.until, "why": basis.why}},
        "severity": "too_little_data",
        "cause": "none",
        "too_little": asdict(lacking),
        "notes": list(notes),
    }


def found(
    reference: Reference,
    basis: Basis,
    evidence: Evidence,
    ratings: Mapping[str, FeedbackEvidence],
    judgement: Judgement,
    *,
    seen_at: float,
    notes: tuple[str, ...] = (),
) -> Document:
    """Return the figures of a look."""
    period = reference.period
    return {
        "rows": {"reference": reference.rows, "current": evidence.rows},
        "windows": {
            "reference": {
                "since": period.since,
                "until": period.until,
                "rows": reference.rows,
                "counted": reference.counted,
                "adapter": period.adapter,
                "why": basis.why,
            },
            "current": {"since": period.until, "until": seen_at},
        },
        "streams": {
            name: {
                "evidence": finite(stream.log_evidence),
                "region": stream.region,
                "effect": effect(stream.effect),
            }
            for name, stream in evidence.streams.items()
        },
        "detector": {
            "evidence": finite(evidence.log_evidence),
            "threshold": finite(evidence.log_threshold),
            "alarmed": evidence.alarmed,
        },
        "ratings": {name: _rated(each) for name, each in ratings.items()},
        "stream": judgement.stream,
        "evidence": judgement.evidence,
        "threshold": judgement.threshold,
        "effect": effect(judgement.effect),
        "severity": judgement.severity,
        "cause": judgement.cause,
        "change_at": judgement.change_at,
        "exhausted": evidence.exhausted,
        "notes": list(notes),
    }


def effect(given: Effect | None) -> Document | None:
    """Return an effect with its interval."""
    return None if given is None else {name: finite(number) for name, number in asdict(given).items()}


def sentence(route: str, figures: Document) -> str:
    """Say in words what a look found."""
    if figures["severity"] == "too_little_data":
        return f"Route {route}: too little data: {figures['too_little']['reason']}."
    words = {
        "ignore": "nothing that needs a look",
        "watch": "worth a look",
        "retrain": {
            "drift": "what comes in, or the answers, changed",
            "feedback": "feedback fell",
            "concept": "feedback fell on the same inputs",
            "none": "changed",
        }[figures["cause"]],
    }[figures["severity"]]
    named = f" by {figures['stream']}" if figures["severity"] != "ignore" else ""
    size = figures["effect"]
    moved = f", effect {size['value']:.2f} [{size['low']:.2f}, {size['high']:.2f}]" if size and named else ""
    windows = figures["windows"]
    return (
        f"Route {route}: {words}{named}: {share(figures['evidence'], figures['threshold']):.2g} of the "
        f"evidence for an alarm{moved}; {figures['rows']['current']} requests against "
        f"{figures['rows']['reference']} {WHY[windows['reference']['why']]}."
    )


def _rated(each: FeedbackEvidence) -> Document:
    return {
        "evidence": finite(each.log_evidence),
        "concept_evidence": finite(each.log_concept_evidence),
        "threshold": finite(each.log_threshold),
        "alarmed": each.alarmed,
        "cause": each.cause,
        "before": effect(each.before),
        "after": effect(each.after),
        "difference": effect(each.difference),
        "same_inputs": effect(each.same_inputs),
        "change_at": each.change_at,
        "ratings": each.ratings,
    }
