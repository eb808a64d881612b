"""Findings as a JSON document: what is stored, what `/admin/experiments` shows and what the CLI prints."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.core.canary import LENGTH
from gateway.experiments.compare import Difference
from gateway.experiments.experiment import ALPHA, Experiment, Sticky
from gateway.experiments.findings import Candidate, Findings, Found
from gateway.experiments.guardrails import alpha_each, sides_of
from gateway.experiments.measures import failed
from gateway.experiments.ratings import Ratings
from gateway.experiments.units import Answer
from gateway.experiments.watch import Guarded, Watch


def document(findings: Findings, *, sampled: float = 1.0) -> dict[str, Any]:
    """Return the findings. `sampled` is the share of the units that they were made from."""
    experiment = findings.experiment
    return {
        "until": findings.until,
        "stable": experiment.stable,
        "sticky": experiment.sticky,
        "units_are": _UNITS[experiment.sticky],
        "same_expected": experiment.same_expected,
        "sampled": sampled,
        "alpha": ALPHA,
        "slo": experiment.slo.model_dump(),
        "units_per_day": findings.units_per_day,
        "epochs": [
            {
                "from_generation": start,
                "shares": dict(shares),
                "units": findings.exposed.counts.get(start, {}),
            }
            for start, shares in sorted(experiment.epochs.items())
        ],
        "arms": _arms(findings),
        "answers_in_no_epoch": findings.exposed.astray,
        "mismatch": {
            **asdict(findings.mismatch),
            "settled": {str(epoch): p_value for epoch, p_value in findings.mismatch.settled.items()},
            "alpha": ALPHA,
        },
        "primary": experiment.primary(),
        "candidates": {label: _candidate(each) for label, each in findings.candidates.items()},
        "canary": _watch(findings.watch, experiment) if findings.watch else None,
    }


_UNITS: Mapping[Sticky, str] = {
    "subject": "subjects, and requests without one",
    "key": "keys",
    "tenant": "tenants",
    "none": "requests",
}


def settled_of(figures: Mapping[str, Any]) -> dict[int, float]:
    """Return what a stored document says of its settled units' shares, as the next look wants it."""
    known = figures.get("mismatch", {}).get("settled", {})
    return {int(epoch): float(p_value) for epoch, p_value in known.items()}


def _arms(findings: Findings) -> dict[str, dict[str, int]]:
    counts = {
        arm: dict.fromkeys(("units", "requests", "errors", "cold", "structured", "schema_invalid"), 0)
        for arm in (findings.experiment.stable, *findings.experiment.candidates)
    }
    for unit in findings.exposed.units:
        if unit.arm in counts:
            mine = counts[unit.arm]
            mine["units"] += 1
            mine["requests"] += len(unit.answers)
            mine["errors"] += sum(map(_is_failed, unit.answers))
            mine["cold"] += sum(answer.cold for answer in unit.answers)
            mine["structured"] += sum(answer.schema_valid is not None for answer in unit.answers)
            mine["schema_invalid"] += sum(answer.schema_valid is False for answer in unit.answers)
    return counts


def _is_failed(answer: Answer) -> bool:
    return failed(answer)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "verdict": {
            "finding": str(candidate.verdict.finding),
            "promote": candidate.verdict.promote,
            "text": candidate.verdict.text,
        },
        "plan": asdict(candidate.plan),
        "metrics": {name: _found(found) for name, found in candidate.metrics.items()},
    }


def _found(found: Found) -> dict[str, Any]:
    measure = found.measure
    return {
        "better": None if measure.name == LENGTH else measure.better,
        "minimum": measure.minimum,
        "window_s": measure.window_s,
        "unrated": measure.unrated,
        "scale": measure.scale,
        "unit": measure.unit,
        "alpha": found.alpha,
        "open_units": found.open_units,
        **_difference(found.difference),
        "ratings": _ratings(found.ratings) if found.ratings else None,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return asdict(difference)


def _ratings(found: Ratings) -> dict[str, Any]:
    return {
        "rate": _difference(found.rate),
        "rates_differ": found.rates_differ,
        "among_raters": _difference(found.among_raters),
        "bounds": list(found.bounds),
    }


def _watch(watch: Watch, experiment: Experiment) -> dict[str, Any]:
    return {
        "candidate": experiment.candidates[0],
        "step_after_generation": experiment.step_after_generation,
        "step_units": watch.step_units,
        "failures_in_a_row": watch.hard_stop,
        "alpha": ALPHA,
        "alpha_each": alpha_each(ALPHA, sides_of(watch.guardrails)),
        "guardrails": {name: _guarded(guard) for name, guard in watch.guardrails.items()},
    }


def _guarded(guard: Guarded) -> dict[str, Any]:
    return {
        "limit": guard.limit,
        "better": guard.measure.better,
        "window_s": guard.measure.window_s,
        "alpha": guard.alpha,
        "breached": guard.breached,
        "leaning": guard.leaning,
        "proven": guard.proven,
        **_difference(guard.difference),
    }
