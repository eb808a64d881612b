"""What becomes of a canary, given what its traffic says. Pure: the same evidence gives the same decision.

A breach is certain, and ends the canary at once. A step is passed with enough closed units and nothing that
speaks against it. Whatever is neither waits, and at the step's deadline is held for a person: not being able
to tell never promotes.
"""

from typing import Any

from gateway.core import steps
from gateway.core.canary import Canary, CanaryStatus
from gateway.core.routes import Route, RouteStatus
from gateway.core.steps import Moment
from gateway.experiments.findings import Findings
from gateway.experiments.watch import Guarded, Watch


def decide(route: Route, findings: Findings, moment: Moment) -> RouteStatus:
    """Return the status that the route should have now; its own when there is nothing to do."""
    canary, status, watch = route.spec.canary, route.status.canary, findings.watch
    if canary is None or status is None or watch is None or not status.live:
        return route.status
    figures = figures_of(watch)
    why = _harm(canary, watch)
    if why:
        return steps.rolled_back(route, reason=why, figures=figures)
    if status.state != "running":
        return route.status
    open_question = _open_question(canary, findings, watch)
    if open_question is None:
        return steps.stepped(route, moment, reason=_passed(status, watch), figures=figures)
    if moment.now < deadline(status, canary, watch):
        return route.status
    reason = f"cannot tell by the deadline of step {status.step}: {open_question}"
    return steps.held(route, reason=reason, figures=figures)


def deadline(status: CanaryStatus, canary: Canary, watch: Watch) -> float:
    """Return when a step is held: its hours are counted from when its first units can be closed."""
    window = max((guard.measure.window_s for guard in watch.guardrails.values()), default=0.0)
    return status.step_at + window + canary.step_deadline_h * 3600


def figures_of(watch: Watch) -> dict[str, Any]:
    """Return the figures of a decision as they are stored with it."""
    return {
        "step_units": watch.step_units,
        "failures_in_a_row": watch.hard_stop,
        "guardrails": {name: _figures(guard) for name, guard in watch.guardrails.items()},
    }


def _figures(guard: Guarded) -> dict[str, Any]:
    d = guard.difference
    return {
        "limit": guard.limit,
        "alpha": guard.alpha,
        "breached": guard.breached,
        "estimate": d.estimate,
        "low": d.low,
        "high": d.high,
        "stable_mean": d.stable_mean,
        "candidate_mean": d.candidate_mean,
        "stable_units": d.stable_units,
        "candidate_units": d.candidate_units,
    }


def _harm(canary: Canary, watch: Watch) -> str | None:
    broken = [_breach(name, guard) for name, guard in watch.guardrails.items() if guard.breached]
    if watch.hard_stop:
        broken.append(f"the last {canary.failures_in_a_row} requests of {canary.candidate} failed in a row")
    return "; ".join(broken) or None


def _breach(name: str, guard: Guarded) -> str:
    d = guard.difference
    means = "" if d.candidate_mean is None else f" ({d.candidate_mean:.3f} against {d.stable_mean:.3f})"
    return (
        f"{name} is breached: the difference to the stable arm is between {d.low:.3f} and {d.high:.3f}{means}"
        f", and the limit is {guard.limit:g}; {d.candidate_units} against {d.stable_units} units"
    )


def _open_question(canary: Canary, findings: Findings, watch: Watch) -> str | None:
    if findings.mismatch.suspicious:
        return (
            f"the arms did not get the units that their shares promise (p = {findings.mismatch.p_value:.2g})"
        )
    if watch.step_units < canary.min_units:
        return f"{watch.step_units} of {canary.min_units} units of {canary.candidate} are closed"
    leaning = [name for name, guard in watch.guardrails.items() if guard.leaning]
    if leaning:
        return f"{', '.join(leaning)} may be over the limit, and is not for certain"
    unproven = [name for name, guard in watch.guardrails.items() if not guard.proven]
    if canary.evidence == "proof" and unproven:
        return f"{', '.join(unproven)} may still be over the limit"
    return None


def _passed(status: CanaryStatus, watch: Watch) -> str:
    names = ", ".join(watch.guardrails) or "none is set"
    return f"step {status.step} is passed with {watch.step_units} closed units; guardrails: {names}"
