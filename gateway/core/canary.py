"""A canary: what people want of it, how far it has come, and what a command makes of that. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from gateway.core.documents import Arm, Document, Share, VersionLabel
from gateway.core.signals import IMPLICIT

ERRORS = "errors"
OVER_TTFT = "over_ttft_slo"
OVER_LATENCY = "over_latency_slo"
LENGTH = "answer_length"
SCHEMA = "schema_validity"
TWO_SIDED = frozenset({LENGTH})
"""Guardrails that a difference either way breaches."""

REQUEST_METRICS = (ERRORS, OVER_TTFT, OVER_LATENCY, LENGTH, SCHEMA, *sorted(IMPLICIT))
"""Guardrails that are read off the recorded requests. Any other name is a metric of the feedback."""


class Canary(Document):
    """Steps of traffic for a candidate.

    A guardrail's number is the largest tolerated difference to the stable arm. `min_units` is how many units
    of the candidate must be closed in each step. With `evidence` "proof" a step also needs every difference
    to be below its limit for certain, and not by its estimate alone.
    """

    candidate: VersionLabel
    steps: tuple[Share, ...] = (0.05, 0.25, 1.0)
    min_units: int = Field(default=60, ge=1)
    step_deadline_h: float = Field(default=24, gt=0)
    guardrails: dict[str, float] = Field(default_factory=dict)
    failures_in_a_row: int = Field(default=5, ge=2, le=1000)
    evidence: Literal["units", "proof"] = "units"
    then: Literal["promote", "wait"] = "promote"

    def shares(self) -> tuple[float, ...]:
        """Return the candidate's share in each step that is measured: at 1 nothing is left to compare."""
        return tuple(sorted({share for share in self.steps if 0 < share < 1}))


class Slo(Document):
    """What the guardrails on requests count against: milliseconds, and tokens of an answer.

    `window_s`: a sticky subject's requests count for so long after its first answer.
    """

    ttft_ms: float = Field(default=2_000, gt=0)
    latency_ms: float = Field(default=30_000, gt=0)
    answer_tokens: int = Field(default=512, ge=1)
    window_s: float = Field(default=300, ge=0)


CanaryState = Literal["running", "held", "paused", "waiting", "promoted", "rolled_back", "aborted"]
LIVE: frozenset[str] = frozenset({"running", "held", "paused", "waiting"})
"""The states in which the candidate has its step's share of the traffic."""


class CanaryStatus(Document):
    """How far a canary has come. Times are seconds since the epoch; `step` counts from 1.

    The units of the canary are those of epochs after `after_generation`, the units of the present step those
    of epochs after `step_after_generation`. `figures` are what the last decision was made from.
    """

    candidate: VersionLabel
    stable: VersionLabel
    state: CanaryState = "running"
    step: int = 1
    share: Share
    started_at: float
    step_at: float
    after_generation: int
    step_after_generation: int
    paused_at: float | None = None
    reason: str | None = None
    figures: dict[str, Any] = Field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether the candidate has its step's share of the traffic."""
        return self.state in LIVE


def stable_of(arms: Sequence[Arm], candidate: str) -> str | None:
    """Return the arm that a candidate is compared with: the largest of the others."""
    others = [arm for arm in arms if arm.adapter != candidate and arm.share > 0]
    return max(others, key=lambda arm: arm.share).adapter if others else None


def arms_with(arms: Sequence[Arm], candidate: str, share: float) -> tuple[Arm, ...]:
    """Return the arms with `share` taken from all of them alike and given to the candidate."""
    others = [arm for arm in arms if arm.adapter != candidate and arm.share > 0]
    whole = sum(arm.share for arm in others)
    if share >= 1 or not whole:
        return (Arm(adapter=candidate, share=1.0),)
    kept = tuple(Arm(adapter=arm.adapter, share=arm.share / whole * (1 - share)) for arm in others)
    return (*kept, Arm(adapter=candidate, share=share))


def faults(canary: Canary, arms: Sequence[Arm], metrics: Mapping[str, Any]) -> list[str]:
    """Return why a canary can't be run on a route with these arms and metrics; nothing when it can."""
    found = []
    if any(arm.adapter == canary.candidate and arm.share > 0 for arm in arms):
        found.append(f"the candidate {canary.candidate} is an arm already; take it out of the arms")
    if not canary.shares():
        found.append("a canary needs a step between 0 and 1: at 1 there is nothing to compare with")
    if canary.steps and (list(canary.steps) != sorted(set(canary.steps)) or canary.steps[0] == 0):
        found.append("the steps of a canary must grow, from above 0")
    for name, limit in canary.guardrails.items():
        declared = metrics.get(name)
        if not 0 < limit < 1:
            found.append(f"the guardrail {name!r} must be a difference between 0 and 1, not {limit:g}")
        if name not in REQUEST_METRICS and declared is None:
            known = ", ".join((*REQUEST_METRICS, *sorted(metrics)))
            found.append(f"the guardrail {name!r} is no metric of this route; there are {known}")
        if declared is not None and declared.type == "string":
            found.append(f"the guardrail {name!r} is on texts, which have no mean")
        if declared is not None and declared.type == "number" and declared.range is None:
            found.append(f"the guardrail {name!r} is on a number without a range; declare its range")
    return found
