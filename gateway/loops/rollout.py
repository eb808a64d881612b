"""How a candidate that has passed the gate meets traffic: shadow, canary, and the end of it. Pure.

The loop changes a route's spec as a person would, and the experiments machinery does the rest. A person who
changes the spec meanwhile decides: the loop only takes note.
"""

from collections.abc import Mapping

from gateway.core.canary import LIVE, Canary, faults
from gateway.core.documents import Arm
from gateway.core.routes import Route, RouteSpec, Shadow, shares_of
from gateway.loops.run import Run
from gateway.loops.sight import STAY, Move, Seen

PATIENCE_S = 600.0
"""So long a route may say that it has failed before the loop takes the candidate out: engines restart."""


def on_route(run: Run, seen: Seen) -> Move:
    """Return the move of a run in `shadowing` or `canary`."""
    route = seen.route
    if route is None:  # the caller has looked
        return STAY
    return _shadowing(run, route, seen) if run.state == "shadowing" else _canary(run, route, seen)


def with_shadow(spec: RouteSpec, run: Run) -> RouteSpec:
    """Return the spec with the candidate as the shadow."""
    share = run.policy.shadow.share if run.policy.shadow else 0.0
    return spec.model_copy(update={"shadow": Shadow(adapter=_candidate(run), share=share)})


def with_canary(spec: RouteSpec, run: Run) -> RouteSpec:
    """Return the spec with a canary of the candidate, which is no shadow any more.

    It runs against the champion. Where a canary made that one the route's version, the arms of the spec still
    name the version before.
    """
    canary = Canary(candidate=_candidate(run), then="promote", **run.policy.canary.model_dump())
    made = without(spec, run).model_copy(update={"canary": canary})
    if set(shares_of(made.arms)) == {run.champion}:
        return made
    return made.model_copy(update={"arms": (Arm(adapter=run.champion, share=1.0),)})


def placed(run: Run, route: Route) -> bool:
    """Whether a route's spec has the candidate where the run's state wants it."""
    canary, shadow = route.spec.canary, route.spec.shadow
    where = {"canary": canary and canary.candidate, "shadowing": shadow and shadow.adapter}
    return run.candidate is not None and where.get(run.state) == run.candidate


def without(spec: RouteSpec, run: Run) -> RouteSpec:
    """Return the spec without the candidate as canary or shadow."""
    gone: dict[str, None] = {}
    if spec.canary is not None and spec.canary.candidate == run.candidate:
        gone["canary"] = None
    if spec.shadow is not None and spec.shadow.adapter == run.candidate:
        gone["shadow"] = None
    return spec.model_copy(update=gone)


def settled(spec: RouteSpec, run: Run) -> RouteSpec:
    """Return the spec in which the candidate is the route's version."""
    return without(spec, run).model_copy(update={"arms": (Arm(adapter=_candidate(run), share=1.0),)})


def _candidate(run: Run) -> str:
    if run.candidate is None:
        raise ValueError(f"{run.id} has no candidate yet")
    return run.candidate


def _shadowing(run: Run, route: Route, seen: Seen) -> Move:
    shadow = route.spec.shadow
    if shadow is None and run.generation is None:
        return _changed(run, route) or Move(act="shadow")
    if shadow is None or shadow.adapter != run.candidate:
        whose = "a person's shadow is there" if shadow else "a person took the shadow out"
        return Move("canary", f"{whose}; it goes on with the canary")
    hours = run.policy.shadow.hours if run.policy.shadow else 0.0
    if seen.age_s < hours * 3600:
        return Move(reason=route.status.reason)
    return Move("canary", f"it was a shadow for {hours:g} h")


def _canary(run: Run, route: Route, seen: Seen) -> Move:
    spec = route.spec.canary
    if spec is not None and spec.candidate == run.candidate:
        return _followed(run, route, seen)
    if run.generation is None and not _answers(route, run):
        return _changed(run, route) or _unable(run, route) or _busy(route) or Move(act="canary")
    if _answers(route, run):
        return Move("promoted", f"{run.candidate} answers the route's traffic")
    return Move("rolled_back", "the canary was taken out of the route's spec")


def _followed(run: Run, route: Route, seen: Seen) -> Move:
    status = route.status.canary
    if status is None or status.candidate != run.candidate:
        if route.status.state == "failed" and seen.age_s > PATIENCE_S:
            return Move("failed", f"the canary can't begin: {route.status.reason}", act="clear")
        return Move(reason=f"the route is {route.status.state}{_because(route.status.reason)}")
    if status.state == "promoted":
        return Move("promoted", status.reason, act="settle")
    if status.state not in LIVE:
        return Move("rolled_back", status.reason, act="clear")
    return Move(reason=f"step {status.step} at {status.share:g} is {status.state}{_because(status.reason)}")


def _changed(run: Run, route: Route) -> Move | None:
    """Return the end of a run whose champion is not the route's version any more: the gate knew another."""
    arms = _version_of(route)
    if set(arms) == {run.champion}:
        return None
    now = ", ".join(arms)
    return Move("failed", f"the gate compared with {run.champion}, and the route has {now} by now")


def _unable(run: Run, route: Route) -> Move | None:
    spec = with_canary(route.spec, run)
    wrong = faults(spec.canary, spec.arms, spec.metrics) if spec.canary else []
    return Move("failed", f"the policy's canary can't be run: {'; '.join(wrong)}") if wrong else None


def _busy(route: Route) -> Move | None:
    status, wanted = route.status.canary, route.spec.canary
    if status is not None and status.live:
        return Move(reason=f"it waits for the canary of {status.candidate}")
    if wanted is not None and (status is None or status.candidate != wanted.candidate):
        return Move(reason=f"it waits for the canary of {wanted.candidate}, which has not begun")
    return None


def _version_of(route: Route) -> Mapping[str, float]:
    """Return what a route's traffic is for: its arms, or the version that a canary has promoted."""
    status, wanted = route.status.canary, route.spec.canary
    if status is None or wanted is None or status.candidate != wanted.candidate:
        return shares_of(route.spec.arms)
    return {status.candidate: 1.0} if status.state == "promoted" else shares_of(route.spec.arms)


def _answers(route: Route, run: Run) -> bool:
    return set(shares_of(route.spec.arms)) == {run.candidate}


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
