"""What a run does next, given what is seen. Pure: the same sight gives the same move.

A move changes the run's state, or has the controller do one thing, or both; `STAY` is neither. A controller
that is killed between the two is followed by one that sees what was done and makes the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.routes import Route
from gateway.loops import results
from gateway.loops.rollout import on_route
from gateway.loops.run import ON_ROUTE, Run, State, deadline_s
from gateway.loops.sight import STAY, Move, Seen, Step

BACKOFF_S = 60.0
LONGEST_BACKOFF_S = 3600.0


def next_move(run: Run, seen: Seen) -> Move:
    """Return the move of an open run."""
    for rule in (_stopped, _homeless, _overdue):
        move = rule(run, seen)
        if move is not None:
            return move
    return _BY_STATE[run.state](run, seen)


def ending(run: Run, seen: Seen, to: State, reason: str) -> Move:
    """Return the move that ends a run: first its process is ended, or the route's spec let go of it."""
    if seen.step.state == "running":
        return Move(act="kill", reason=reason)
    if run.state in ON_ROUTE and seen.route is not None and names(seen.route, run):
        return Move(to, reason, act="clear")
    return Move(to, reason)


def names(route: Route, run: Run) -> bool:
    """Whether a route's spec names the candidate as its canary or its shadow."""
    canary, shadow = route.spec.canary, route.spec.shadow
    return run.candidate is not None and run.candidate in (
        canary.candidate if canary else None,
        shadow.adapter if shadow else None,
    )


def _stopped(run: Run, seen: Seen) -> Move | None:
    if run.stop is None:
        return None
    return ending(run, seen, "rejected", f"rejected by {run.stop.get('by')}{_because(run.stop.get('why'))}")


def _homeless(run: Run, seen: Seen) -> Move | None:
    """End a run whose route is gone, or has no loop any more. A canary that has begun goes on without."""
    route = seen.route
    if route is None:
        return ending(run, seen, "rejected", "the route was deleted")
    if route.fault:  # it may have a loop that can't be read
        return Move(reason=f"the route's stored spec can't be read: {route.fault}")
    if route.spec.loop is None and run.state not in ON_ROUTE:
        return ending(run, seen, "rejected", "the route has no loop any more")
    return None


def _overdue(run: Run, seen: Seen) -> Move | None:
    limit = deadline_s(run)
    if limit is None or seen.age_s <= limit or _is_decided(run, seen):
        return None
    hours = f"{limit / 3600:g} h"
    if run.state in ("waiting_approval", "waiting_review"):
        return Move("rejected", f"nobody decided within {hours}")
    if run.state == "canary":
        return ending(run, seen, "rolled_back", f"the canary did not end within {hours}")
    why = f": {seen.step.reason}" if seen.step.reason else ""
    return ending(run, seen, "failed", f"{run.state} was ended after {hours}{why}")


def _is_decided(run: Run, seen: Seen) -> bool:
    """Whether the state's end is there already, and nobody was here to take note of it."""
    canary = seen.route.status.canary if seen.route and run.state == "canary" else None
    ended = canary is not None and canary.candidate == run.candidate and not canary.live
    reviewed = run.state == "waiting_review" and seen.unreviewed == 0
    return ended or reviewed or seen.step.state == "done" or (run.asks in run.approvals)


def _proposed(run: Run, seen: Seen) -> Move:
    if run.policy.approve == "always" and "start" not in run.approvals:
        return Move("waiting_approval", "the policy wants a person's approval before it trains")
    if seen.paused:
        return Move(reason="the route's loop is paused")
    if not seen.place:
        return Move(reason="as many runs as may work at once are working")
    return Move("curating", run.reason)


def _waiting_approval(run: Run, seen: Seen) -> Move:
    asked = run.asks
    approved = run.approvals.get(asked) if asked else None
    if approved is None:
        return STAY
    reason = f"approved by {approved.get('by')}{_because(approved.get('why'))}"
    if asked == "start":
        return Move("proposed", reason)
    return _roll_out(run, seen, reason)


def _waiting_review(_run: Run, seen: Seen) -> Move:
    if seen.unreviewed is None or seen.unreviewed > 0:
        return STAY
    if seen.paused or not seen.place:
        return STAY
    return Move("curating", "the rows are reviewed")


def _curating(run: Run, seen: Seen) -> Move:
    if seen.step.state != "done":
        return _work(run, seen)
    return _read(run, seen, "curate", _curated)


def _training(run: Run, seen: Seen) -> Move:
    if seen.step.state != "done":
        return _work(run, seen)
    return _read(run, seen, "train", _trained)


def _gating(run: Run, seen: Seen) -> Move:
    if seen.step.state != "done":
        return _work(run, seen)
    return _read(run, seen, "gate", _gated)


def _work(run: Run, seen: Seen) -> Move:
    """Start the state's process, or wait for it, or try it again, or give up."""
    step = seen.step
    if step.state == "running":
        return STAY
    if step.state in ("elsewhere", "blocked"):
        return Move(reason=step.reason)
    if step.state == "refused":
        return Move("failed", step.reason)
    if step.state == "idle":
        return STAY if seen.paused else Move(act="start")
    return _again(run, seen, step)


def _again(run: Run, seen: Seen, step: Step) -> Move:
    reason = f"{run.state} failed: {step.reason}"
    if not step.again:
        return Move("failed", reason)
    if run.attempt > run.policy.max_retries:
        tried = f" (tried {run.attempt} times)" if run.attempt > 1 else ""
        return Move("failed", f"{reason}{tried}")
    pause_s = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** (run.attempt - 1))
    if step.age_s < pause_s or seen.paused:
        return Move(reason=f"{reason}; it is tried again")
    return Move(act="start", reason=f"{reason}; it is tried again")


def _read(run: Run, seen: Seen, name: str, then: "Callable[[Run, Seen, Mapping[str, Any]], Move]") -> Move:
    document = seen.step.result or {}
    try:
        move = then(run, seen, document)
    except results.Unreadable as error:
        return Move("failed", f"the result of {run.state} can't be read: {error}")
    return move.with_updates(results={**run.results, name: dict(document)})


def _curated(run: Run, _seen: Seen, document: Mapping[str, Any]) -> Move:
    found = results.curated(document)
    least = run.policy.min_new_examples
    if found.outcome == "waiting_review":
        return Move("waiting_review", found.reason or "rows wait for a person's review")
    if found.outcome == "too_little_data" or found.new_rows < least:
        few = f"{found.new_rows} new rows, and {least} are needed"
        return Move("too_little_data", found.reason or few)
    what = f"{found.rows} rows, {found.new_rows} of them new, for {found.method}"
    if run.policy.dry_run:
        return Move("dry_run", f"it would train on {what}")
    return Move("training", what)


def _trained(_run: Run, _seen: Seen, document: Mapping[str, Any]) -> Move:
    ref = results.trained(document)
    return Move("gating", f"{ref} is trained", updates={"candidate": str(ref)})


def _gated(run: Run, seen: Seen, document: Mapping[str, Any]) -> Move:
    found = results.gated(document)
    return _after_gate(run, seen, found).with_updates(verdict=found.verdict)


def _after_gate(run: Run, seen: Seen, found: results.Gated) -> Move:
    if found.verdict in ("failed", "too_few_rows"):
        return Move("gate_failed", found.reason)
    untrusted = _untrusted(run) if found.verdict == "passed" else found.reason
    if untrusted is not None:
        if run.policy.approve == "never":
            return Move("gate_failed", f"{untrusted.rstrip('.')}; and the policy has nobody asked")
        return Move("waiting_approval", untrusted)
    if run.policy.approve == "always":
        return Move("waiting_approval", found.reason)
    return _roll_out(run, seen, found.reason)


def _untrusted(run: Run) -> str | None:
    """Return why a passed gate is not enough; it is asked here too, since this opens traffic to a version."""
    trusted = int(run.results.get("curate", {}).get("trusted_held_out_new") or 0)
    least = run.policy.min_trusted_held_out
    if trusted >= least:
        return None
    return f"the gate is passed, on {trusted} new held-out rows of a trusted source, and {least} are needed"


def _roll_out(run: Run, _seen: Seen, reason: str) -> Move:
    to: State = "shadowing" if run.policy.shadow is not None else "canary"
    return Move(to, reason)


def _because(why: Any) -> str:
    return f": {why}" if why else ""


_BY_STATE: Mapping[str, "Callable[[Run, Seen], Move]"] = {
    "proposed": _proposed,
    "waiting_approval": _waiting_approval,
    "curating": _curating,
    "waiting_review": _waiting_review,
    "training": _training,
    "gating": _gating,
    "shadowing": on_route,
    "canary": on_route,
}
