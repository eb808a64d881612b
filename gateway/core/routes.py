"""A route: the spec that people own and the status that the controller owns (DESIGN: public surface)."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.core.canary import Canary, CanaryStatus, Slo
from gateway.core.documents import Arm, Document, Share, VersionLabel
from gateway.core.loop import LoopPolicy
from gateway.core.refs import NAME_PATTERN, VersionRef, valid_name
from gateway.core.signals import IMPLICIT

SHARE_TOLERANCE = 1e-9
DEMONSTRATION = "demonstration"
"""The metric whose value is the answer that should have been given; any route takes it, undeclared."""


Finite = Annotated[float, Field(allow_inf_nan=False)]


class Shadow(Document):
    """A version that answers a share of the requests once more, after their clients have their answers."""

    adapter: VersionLabel
    share: Share


class Metric(Document):
    """A feedback metric: its type, which direction is better, and how long a unit stays open (hours).

    `min_effect` is the smallest difference that matters: of a bool in shares (0.02 is 2 points), of a number
    in its own unit. `range` holds the lowest and the highest value of a number; feedback outside it is
    refused. A number without a range is recorded and shown, but has no part in a comparison of arms.
    """

    type: Literal["bool", "number", "string"] = "bool"
    better: Literal["higher", "lower"] = "higher"
    primary: bool = False
    window_h: float = Field(default=72, gt=0, allow_inf_nan=False)
    min_effect: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    range: tuple[Finite, Finite] | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.range is not None and self.type != "number":
            raise ValueError(f"only numbers have a range, and this is a {self.type}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("the range needs a lowest value below its highest")
        if self.type == "string" and (self.primary or self.min_effect is not None):
            raise ValueError("strings are not compared: they can't be primary or have a min_effect")
        if self.type == "number" and self.primary and self.range is None:
            raise ValueError("a number that is primary needs a range")
        if self.min_effect is not None and self.min_effect > self.span:
            raise ValueError(f"min_effect {self.min_effect:g} is more than the metric can differ by")
        return self

    @property
    def span(self) -> float:
        """By how much two values can differ; infinite for a number without a range."""
        if self.type == "number":
            return self.range[1] - self.range[0] if self.range else math.inf
        return 1.0

    def scaled(self, value: bool | float | str) -> float | None:
        """Return a value between 0 and 1, or None when it is none that arms are compared by.

        A value outside the range, from before the range was declared, counts as its nearer end.
        """
        if self.type == "bool":
            return float(value) if isinstance(value, bool) else None
        if self.type == "string" or self.range is None or isinstance(value, bool | str):
            return None
        return min(1.0, max(0.0, (value - self.range[0]) / self.span))


class Capture(Document):
    """Whether prompts and answers are recorded: never, for a share of the requests, or always."""

    mode: Literal["off", "sampled", "full"] = "off"
    share: Share = 1.0
    redact: bool = True


class RouteSpec(Document):
    """What people decide about a route. The shares of its arms add up to 1."""

    arms: tuple[Arm, ...] = Field(min_length=1, max_length=32)
    sticky: Literal["subject", "key", "tenant", "none"] = "subject"
    canary: Canary | None = None
    shadow: Shadow | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    slo: Slo = Slo()
    capture: Capture = Capture()
    fallback: VersionLabel | None = None
    loop: LoopPolicy | None = None

    @model_validator(mode="after")
    def _arms_make_a_whole(self) -> Self:
        if not self.arms:  # no document has none; what stands for one that can't be read does
            return self
        labels = [arm.adapter for arm in self.arms]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"arms name {', '.join(doubled)} more than once")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > SHARE_TOLERANCE:
            raise ValueError(f"the shares of the arms add up to {total:g}, not to 1")
        return self

    @model_validator(mode="after")
    def _metrics_are_well_named(self) -> Self:
        for name, metric in self.metrics.items():
            if not valid_name(name):
                raise ValueError(f"{name!r} can't name a metric; names match {NAME_PATTERN}")
            if name == DEMONSTRATION:
                raise ValueError(f"{name!r} is a text on every route and is not declared")
            if name in IMPLICIT and (metric.type, metric.better) != ("bool", "lower"):
                raise ValueError(f"the gateway records {name!r} itself, as a bool of which lower is better")
        primary = sorted(name for name, metric in self.metrics.items() if metric.primary)
        if len(primary) > 1:
            raise ValueError(f"{', '.join(primary)} are all primary; one metric can be")
        return self

    def versions(self) -> set[VersionRef]:
        """Every version that this spec needs on the engines."""
        labels = {arm.adapter for arm in self.arms}
        if self.canary:
            labels.add(self.canary.candidate)
        if self.shadow:
            labels.add(self.shadow.adapter)
        if self.fallback:
            labels.add(self.fallback)
        return {ref for label in labels if (ref := VersionRef.parse(label))}


RouteState = Literal["preparing", "attesting", "active", "failed"]


class RouteStatus(Document):
    """What the controller made of the spec. `effective_arms` is what traffic meets now.

    `previous_arms` is what it met before the last flip: kept ready while there is room, for a rollback.
    `salt` is a part of what subjects are drawn by: a new one at the beginning of a canary draws others.
    """

    state: RouteState = "preparing"
    active_generation: int | None = None
    effective_arms: tuple[Arm, ...] = ()
    previous_arms: tuple[Arm, ...] = ()
    salt: str = ""
    canary_step: int | None = None
    canary: CanaryStatus | None = None
    reason: str | None = None


def shares_of(arms: Sequence[Arm]) -> dict[str, float]:
    """Return the shares of arms that have one, by label."""
    return {arm.adapter: arm.share for arm in arms if arm.share > 0}


class Route(Document):
    """A route as `/admin/routes/{route}` shows it.

    `fault` says what of its stored documents could not be read (gateway.core.stored), and is null otherwise.
    """

    name: str = Field(pattern=rf"^{NAME_PATTERN}$")
    spec: RouteSpec
    generation: int
    status: RouteStatus
    fault: str | None = None
