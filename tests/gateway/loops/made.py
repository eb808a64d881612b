"""Routes, runs and what is seen of them, made for tests."""

from typing import Any

from gateway.core.canary import Canary, CanaryStatus
from gateway.core.documents import Arm
from gateway.core.loop import LoopPolicy
from gateway.core.routes import Route, RouteSpec, RouteStatus
from gateway.loops.run import Run

HOUR = 3600.0
CURATED = {
    "outcome": "ready",
    "method": "sft",
    "rows": 900,
    "new_rows": 500,
    "held_out_new": 150,
    "trusted_held_out_new": 120,
    "fingerprint": "sha256:rows",
}


def policy(**fields: Any) -> LoopPolicy:
    """Return a policy: the defaults, and what is given."""
    return LoopPolicy.model_validate(fields)


DEFAULT = LoopPolicy()


def route(
    *, arm: str = "support@1", loop: LoopPolicy | None = DEFAULT, generation: int = 5, **spec: Any
) -> Route:
    """Return an active route whose traffic meets one version."""
    arms = (Arm(adapter=arm, share=1.0),)
    return Route(
        name="support",
        spec=RouteSpec(arms=arms, loop=loop, **spec),
        generation=generation,
        status=RouteStatus(state="active", active_generation=generation, effective_arms=arms),
    )


def canarying(state: str, *, candidate: str = "support@2", reason: str | None = None) -> Route:
    """Return a route with a canary of the candidate in this state."""
    made = route(canary=Canary(candidate=candidate, steps=(0.1,)))
    status = CanaryStatus(
        candidate=candidate,
        stable="support@1",
        state=state,  # type: ignore[arg-type]  # the cases name real ones
        share=0.1,
        started_at=0.0,
        step_at=0.0,
        after_generation=1,
        step_after_generation=1,
        reason=reason,
    )
    return made.model_copy(update={"status": made.status.model_copy(update={"canary": status})})


def run(state: str = "proposed", **fields: Any) -> Run:
    """Return a run in a state."""
    given: dict[str, Any] = {
        "id": "loop-20260101-000000-abcdef",
        "route": "support",
        "trigger": "drift",
        "cause": "drift",
        "actor": "loop",
        "policy": LoopPolicy(),
        "since": 0.0,
        "created_at": 0.0,
        "champion": "support@1",
        "reason": "the monitor found that traffic has drifted",
        **fields,
    }
    if state in ("gating", "shadowing", "canary"):
        given.setdefault("candidate", "support@2")
    if state in ("training", "gating"):
        given.setdefault("results", {"curate": CURATED})
    return Run(state=state, **given)  # type: ignore[arg-type]  # the cases name real ones
