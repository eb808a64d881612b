"""A route: the spec that people own and the status that the controller owns (DESIGN: public surface)."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.core.canary import Canary, CanaryStatus, Slo
from gateway.core.documents import Arm, Document, Share, VersionLabel
from gateway.core.refs import NAME_PATTERN, VersionRef

SHARE_TOLERANCE = 1e-9


class Shadow(Document):
    """A version that sees a share of the traffic without answering it. Stored; not acted on yet."""

    adapter: VersionLabel
    share: Share


class Metric(Document):
    """A feedback metric: its type, which direction is better, and how long a unit stays open (hours)."""

    type: Literal["bool", "number", "string"] = "bool"
    better: Literal["higher", "lower"] = "higher"
    primary: bool = False
    window_h: float = Field(default=72, gt=0)


class Capture(Document):
    """Whether prompts and answers are recorded: never, for a share of the requests, or always."""

    mode: Literal["off", "sampled", "full"] = "off"
    share: Share = 1.0
    redact: bool = True


class RouteSpec(Document):
    """What people decide about a route. The shares of its arms add up to 1."""

    arms: tuple[Arm, ...] = Field(min_length=1, max_length=32)
    sticky: Literal["subject", "key", "none"] = "subject"
    canary: Canary | None = None
    shadow: Shadow | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    slo: Slo = Slo()
    capture: Capture = Capture()
    fallback: VersionLabel | None = None

    @model_validator(mode="after")
    def _arms_make_a_whole(self) -> Self:
        labels = [arm.adapter for arm in self.arms]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"arms name {', '.join(doubled)} more than once")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > SHARE_TOLERANCE:
            raise ValueError(f"the shares of the arms add up to {total:g}, not to 1")
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
    """

    state: RouteState = "preparing"
    active_generation: int | None = None
    effective_arms: tuple[Arm, ...] = ()
    previous_arms: tuple[Arm, ...] = ()
    canary_step: int | None = None
    canary: CanaryStatus | None = None
    reason: str | None = None


def shares_of(arms: Sequence[Arm]) -> dict[str, float]:
    """Return the shares of arms that have one, by label."""
    return {arm.adapter: arm.share for arm in arms if arm.share > 0}


class Route(Document):
    """A route as `/admin/routes/{route}` shows it."""

    name: str = Field(pattern=rf"^{NAME_PATTERN}$")
    spec: RouteSpec
    generation: int
    status: RouteStatus
