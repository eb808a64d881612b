"""When a run begins: triggers, cooldown, budget, schedule. Pure.

Everything is told in ages, which `Ages` keeps right when the wall clock jumps. One rule holds for all: while
a run of the route is open, none begins. A run that begins by itself also waits for the cooldown after the
last one, however that ended; a person's does not. The budget of a week binds both.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core.loop import LoopPolicy, Trigger
from gateway.core.routes import Route, shares_of

HOUR_S = 3600.0
WEEK_S = 168 * HOUR_S
FRESH_S = WEEK_S
"""A finding that is older starts nothing: nobody looks any more, and traffic has moved on."""

MORE = 1.25
"""So many times the rows it should have had a finding waits for, after a run of it that had too few."""

TRIGGERS: dict[str, Trigger] = {"drift": "drift", "feedback": "feedback", "concept": "feedback"}
"""What a finding's cause counts as: the same inputs with worse feedback are worse feedback."""


@dataclass(frozen=True, slots=True)
class Past:
    """A run of before, as far as it bears on the next: seconds since it began, and since it ended if it did.

    `drift_id` is the newest finding that it has answered. `in_vain`: it ended for want of rows, to train
    on or to judge by, so that what was found has had no answer yet. `lacks`: so many times its rows would
    have done, as far as that is known.
    """

    begun_s: float
    ended_s: float | None
    drift_id: int | None = None
    in_vain: bool = False
    lacks: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A look at a route by the sequential detector that calls for a training, the newest of its cause.

    `learnable`: about how many rows a run could train on by now; None when that is not known.
    """

    id: int
    cause: str
    age_s: float
    learnable: int | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """A run should begin, and why."""

    trigger: Trigger
    cause: str
    reason: str
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class NotNow:
    """None may begin, and why not; `wait_s` is when to ask again, where that is known."""

    reason: str
    wait_s: float | None = None


def may_begin(policy: LoopPolicy, past: Sequence[Past], *, by_hand: bool = False) -> NotNow | None:
    """Return what stands against a run beginning now; None when nothing does."""
    if by_hand and "manual" not in policy.triggers:
        return NotNow("the route's policy does not have the trigger manual")
    if any(run.ended_s is None for run in past):
        return NotNow("a run is under way")
    ended = [run.ended_s for run in past if run.ended_s is not None]
    left = policy.cooldown_h * HOUR_S - min(ended, default=math.inf)
    if left > 0 and not by_hand:
        return NotNow(f"the cooldown of {policy.cooldown_h:g} h is not over", left)
    recent = sorted(run.begun_s for run in past if run.begun_s < WEEK_S)
    if len(recent) >= policy.runs_per_week:
        room_s = WEEK_S - recent[policy.runs_per_week - 1]
        return NotNow(f"{len(recent)} runs began within a week, and {policy.runs_per_week} may", room_s)
    return None


def needed(policy: LoopPolicy, past: Iterable[Past], finding: int) -> int:
    """Return how many rows to train on a finding waits for.

    The count is an estimate: of rated requests some teach nothing. So each run that it began in vain has the
    next one wait for a quarter more, and where the gate said how many it lacked, for those besides.
    """
    tried = [MORE * run.lacks for run in past if run.in_vain and run.drift_id == finding]
    return math.ceil(policy.min_new_examples * math.prod(tried))


def begin(
    policy: LoopPolicy,
    past: Sequence[Past],
    *,
    findings: Sequence[Finding],
    watched_s: float,
    champion_s: float = math.inf,
) -> Begin | NotNow:
    """Return the run that should begin by itself now, or why none does.

    `findings`: the newest of each cause. The newest that the policy acts on begins a run.
    `watched_s`: seconds since the route was first seen with a loop; the first scheduled run counts from then.
    `champion_s`: seconds since the present version has most of the traffic. What was found before is about
    another.
    """
    against = may_begin(policy, past)
    if against is not None:
        return against
    called = [_found(policy, past, each, champion_s) for each in sorted(findings, key=_newest_first)]
    for found in called:
        if isinstance(found, Begin):
            return found
    if policy.schedule_h is not None:
        quiet_s = min((run.begun_s for run in past), default=watched_s)
        if quiet_s >= policy.schedule_h * HOUR_S:
            return Begin("schedule", "schedule", f"{policy.schedule_h:g} h are over since the last run")
    return next((found for found in called if found is not None), NotNow("nothing calls for a run"))


def _found(
    policy: LoopPolicy, past: Sequence[Past], finding: Finding, champion_s: float
) -> Begin | NotNow | None:
    """Return the run that a finding begins, or that it waits: a run with too few rows would answer it too."""
    if finding.age_s >= min(FRESH_S, champion_s):
        return None
    trigger = TRIGGERS.get(finding.cause)
    if trigger is None or trigger not in policy.triggers:
        return None
    if any(_answers(run, finding) for run in past):
        return None
    said = f"the monitor found {_WORDS[finding.cause]}"
    least = needed(policy, past, finding.id)
    if finding.learnable is not None and finding.learnable < least:
        few = f"about {finding.learnable} rated requests to train on came since"
        return NotNow(f"{said}; {few}, and {least} are needed")
    return Begin(trigger, finding.cause, said, finding)


def _newest_first(finding: Finding) -> int:
    return -finding.id


def _answers(run: Past, finding: Finding) -> bool:
    """Whether a run was the answer to a finding: it knew it, or ended after it, and had rows enough."""
    if run.in_vain:
        return False
    if run.drift_id is not None and run.drift_id >= finding.id:
        return True
    return run.ended_s is not None and run.ended_s <= finding.age_s


_WORDS = {
    "drift": "that traffic has drifted",
    "feedback": "that feedback got worse",
    "concept": "that feedback got worse on the same inputs",
}


def unfit(route: Route) -> str | None:
    """Return why no candidate could be compared on a route now; None when one could."""
    if route.fault:
        return f"its stored spec can't be read: {route.fault}"
    if route.status.state != "active" or route.status.active_generation != route.generation:
        return f"the route is {route.status.state}"
    if route.status.canary is not None and route.status.canary.live:
        return f"a canary of {route.status.canary.candidate} is under way"
    known, wanted = route.status.canary, route.spec.canary
    if wanted is not None and (known is None or known.candidate != wanted.candidate):
        return f"its spec has a canary of {wanted.candidate}"
    if champion_of(route) is None:
        return "it compares several arms; the loop needs one"
    return None


def champion_of(route: Route) -> str | None:
    """Return the version that answers all of a route's traffic; None when several do, or none."""
    arms = shares_of(route.status.effective_arms)
    return next(iter(arms)) if len(arms) == 1 else None
