"""The moves of a canary, from one status of a route to the next. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.core.canary import Canary, CanaryState, CanaryStatus, arms_with, faults, stable_of
from gateway.core.documents import Arm
from gateway.core.routes import Route, RouteSpec, RouteStatus, shares_of


class NotPossible(Exception):
    """The canary is not in a state from which that could be done. The message says what can."""


class Moment(NamedTuple):
    """When something is decided: seconds since the epoch, and the generation that the decision has seen."""

    now: float = 0.0
    generation: int = 0


def begun(
    spec: RouteSpec, status: RouteStatus, moment: Moment, *, before: Sequence[Arm] | None = None
) -> RouteStatus:
    """Return the status of a route whose canary takes its first step now; unchanged when it can't be run.

    `before` is what traffic has met so far, by default the status's arms. While that is one version whatever
    the draw, the canary gets a salt of its own: nobody moves who would not move anyway, and its subjects are
    not those of the canary before. Otherwise subjects stay with the arms that they have.
    """
    canary = spec.canary
    stable = stable_of(spec.arms, canary.candidate) if canary else None
    if canary is None or stable is None or faults(canary, spec.arms, spec.metrics):
        return status
    share = canary.shares()[0]
    began = CanaryStatus(
        candidate=canary.candidate,
        stable=stable,
        share=share,
        started_at=moment.now,
        step_at=moment.now,
        after_generation=moment.generation,
        step_after_generation=moment.generation,
    )
    arms = arms_with(spec.arms, canary.candidate, share)
    drawn = len(shares_of(status.effective_arms if before is None else before)) > 1
    salt = status.salt if drawn else f"canary-{moment.generation}"
    return status.model_copy(update={"effective_arms": arms, "canary": began, "canary_step": 1, "salt": salt})


def stepped(route: Route, moment: Moment, *, reason: str, figures: dict[str, Any]) -> RouteStatus:
    """Return the status after the present step is passed: the next step, or the end of the canary."""
    canary, status = _canary(route), _status(route)
    shares = canary.shares()
    if status.step >= len(shares):
        if canary.then == "wait":
            return _told(route, state="waiting", reason=reason, figures=figures)
        return _ended(route, "promoted", reason=reason, figures=figures)
    share = shares[status.step]
    taken = status.model_copy(
        update={
            "step": status.step + 1,
            "share": share,
            "step_at": moment.now,
            "step_after_generation": moment.generation,
            "reason": reason,
            "figures": figures,
        }
    )
    return route.status.model_copy(
        update={
            "effective_arms": arms_with(route.spec.arms, canary.candidate, share),
            "canary": taken,
            "canary_step": taken.step,
        }
    )


def held(route: Route, *, reason: str, figures: dict[str, Any]) -> RouteStatus:
    """Return the status of a canary that stays at its step until a person decides."""
    return _told(route, state="held", reason=reason, figures=figures)


def rolled_back(route: Route, *, reason: str, figures: dict[str, Any]) -> RouteStatus:
    """Return the status after the candidate's traffic went back to the arms of the spec."""
    return _ended(route, "rolled_back", reason=reason, figures=figures)


def paused(route: Route, moment: Moment) -> RouteStatus:
    """Return the status of a canary that takes no step until it is resumed. Its guardrails are watched on.

    Raises:
        NotPossible: it is not running.
    """
    _require(route, "pause", "running", "held")
    return _told(route, state="paused", paused_at=moment.now, reason="paused by a person")


def resumed(route: Route, moment: Moment) -> RouteStatus:
    """Return the status of a canary that goes on: its deadline moves by the pause, or begins anew when held.

    Raises:
        NotPossible: it is neither paused nor held.
    """
    status = _require(route, "resume", "paused", "held")
    step_at = moment.now
    if status.state == "paused" and status.paused_at is not None:
        step_at = status.step_at + max(0.0, moment.now - status.paused_at)
    return _told(route, state="running", step_at=step_at, paused_at=None, reason="resumed by a person")


def aborted(route: Route, *, reason: str = "aborted by a person") -> RouteStatus:
    """Return the status after the candidate's traffic was sent back to the arms of the spec.

    Raises:
        NotPossible: the canary has ended.
    """
    status = _require(route, "abort", "running", "held", "paused", "waiting")
    return _ended(route, "aborted", reason=reason, figures=status.figures)


def restarted(route: Route, moment: Moment) -> RouteStatus:
    """Return the status of a canary that was stopped and begins again with its first step and no past.

    Raises:
        NotPossible: it was not stopped, or the route's spec is still being prepared.
    """
    _require(route, "restart", "rolled_back", "aborted")
    if route.status.state != "active" or route.status.active_generation != route.generation:
        raise NotPossible(f"the route {route.name!r} is {route.status.state}; wait until it is active")
    return begun(route.spec, route.status, moment)


def _ended(route: Route, state: CanaryState, *, reason: str, figures: dict[str, Any]) -> RouteStatus:
    arms = route.spec.arms
    if state == "promoted":
        arms = arms_with(arms, _canary(route).candidate, 1.0)
    told = _told(route, state=state, reason=reason, figures=figures)
    before = route.spec.arms if state == "promoted" else route.status.previous_arms
    return told.model_copy(update={"effective_arms": arms, "previous_arms": before, "canary_step": None})


def _told(route: Route, **changes: Any) -> RouteStatus:
    return route.status.model_copy(update={"canary": _status(route).model_copy(update=changes)})


def _require(route: Route, what: str, *states: CanaryState) -> CanaryStatus:
    status = route.status.canary
    if status is None:
        raise NotPossible(f"no canary is under way on the route {route.name!r}")
    if status.state not in states:
        hint = _HINTS.get(status.state, "")
        raise NotPossible(f"can't {what} the canary of {route.name!r}: it is {_said(status.state)}{hint}")
    return status


def _said(state: str) -> str:
    return state.replace("_", " ")


_HINTS = {
    "waiting": "; promote the candidate, or abort",
    "promoted": "; `turnout routes rollback` brings back an earlier spec",
    "rolled_back": "; it can be restarted",
    "aborted": "; it can be restarted",
}


def _canary(route: Route) -> Canary:
    assert route.spec.canary is not None  # noqa: S101 - a status of a canary belongs to a spec that has it
    return route.spec.canary


def _status(route: Route) -> CanaryStatus:
    assert route.status.canary is not None  # noqa: S101 - the caller looked
    return route.status.canary
