"""What a route's experiment will be able to find at the present traffic, before it has begun."""

from dataclasses import asdict
from typing import Any

from gateway.core.canary import Canary
from gateway.core.routes import RouteSpec, shares_of
from gateway.experiments.experiment import ALPHA, Experiment
from gateway.experiments.guardrails import alpha_each, sides_of
from gateway.experiments.measures import Measure
from gateway.experiments.plan import detectable, plan
from gateway.experiments.verdict import alphas

DAY_S = 86_400.0
HOURS_A_DAY = 24.0


def forecast(spec: RouteSpec, units_per_day: float) -> dict[str, Any] | None:
    """Return the forecast of a spec's canary, or of its arms; None where it compares nothing.

    Durations are days, None where there is no traffic to count on. Detectable differences are found with a
    probability of 0.8, for values of the largest possible variance: others are found sooner.
    """
    if spec.canary is not None:
        return {"units_per_day": units_per_day, **_of_canary(spec, spec.canary, units_per_day)}
    shares = shares_of(spec.arms)
    if len(shares) < 2:
        return None
    stable = max(shares, key=lambda label: shares[label])
    candidates = tuple(label for label in shares if label != stable)
    experiment = Experiment("", stable, candidates, {0: shares}, spec.metrics, spec.slo, spec.sticky)
    return {
        "units_per_day": units_per_day,
        "stable": stable,
        "metric": experiment.primary(),
        "candidates": {label: _of_arm(experiment, label, units_per_day) for label in candidates},
    }


def _of_arm(experiment: Experiment, label: str, units_per_day: float) -> dict[str, Any]:
    measures = experiment.measures()
    measure = measures[experiment.primary()]
    shares = experiment.epochs[0]
    both = shares[experiment.stable] + shares[label]
    own, _ = alphas(ALPHA, others=len(measures) - 1, candidates=len(experiment.candidates))
    planned = plan(
        measure.minimum,
        share=shares[label] / both,
        units_per_day=units_per_day * both,
        window_days=measure.window_s / DAY_S,
        alpha=own,
    )
    return {**asdict(planned), **_words(measure)}


def _of_canary(spec: RouteSpec, canary: Canary, units_per_day: float) -> dict[str, Any]:
    experiment = Experiment("", "", (canary.candidate,), {}, spec.metrics, spec.slo, spec.sticky)
    measures = experiment.measures()
    guarded = {name: measures[name] for name in canary.guardrails if name in measures}
    steps = [_of_step(canary, share, guarded, units_per_day) for share in canary.shares()]
    days = [step["days"] for step in steps]
    return {
        "candidate": canary.candidate,
        "steps": steps,
        "days": None if None in days else sum(days),
        "then": canary.then,
    }


def _of_step(
    canary: Canary, share: float, guarded: dict[str, Measure], units_per_day: float
) -> dict[str, Any]:
    window_days = max((measure.window_s for measure in guarded.values()), default=0.0) / DAY_S
    theirs = units_per_day * share
    days = canary.min_units / theirs + window_days if theirs > 0 else None
    deadline_days = window_days + canary.step_deadline_h / HOURS_A_DAY
    units = round(canary.min_units / share)
    alpha = alpha_each(ALPHA, sides_of(guarded))
    return {
        "share": share,
        "candidate_units": canary.min_units,
        "days": days,
        "deadline_days": deadline_days,
        "in_time": days is not None and days <= deadline_days,
        "detectable": {
            name: {"difference": detectable(units, share=share, alpha=alpha), **_words(measure)}
            for name, measure in guarded.items()
        },
    }


def _words(measure: Measure) -> dict[str, Any]:
    return {"scale": measure.scale, "unit": measure.unit}
