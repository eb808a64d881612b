"""The documents of experiments and canaries in `/admin`. Times are seconds since the epoch."""

from typing import Any

from pydantic import Field

from gateway.api.admin_schemas import Shown, Taken
from gateway.core.canary import CanaryStatus
from gateway.core.routes import Route


class FeedbackMean(Shown):
    """The mean of a metric's bools (as 0 and 1) and numbers; strings are counted by value in `values`."""

    count: int
    mean: float | None
    values: dict[str, int]


class ArmCounts(Shown):
    """What was recorded for one arm. `units` are sticky subjects; `unsticky` requests have none."""

    requests: int
    units: int
    unsticky: int
    errors: int
    feedback: dict[str, FeedbackMean]


class EpochView(Shown):
    """From which generation on a route's traffic met which shares; subjects were drawn by `salt`."""

    from_generation: int
    at: float
    arms: dict[str, float]
    salt: str = ""


class Experiment(Shown):
    """What is known of a route's experiment.

    `arms` counts what was recorded since `since`, however it was assigned. `findings` are the statistics, as
    of `at`, and null while there is nothing to compare or nobody has looked yet; `verdict` is their words.
    """

    route: str
    since: float
    arms: dict[str, ArmCounts]
    verdict: str | None = None
    note: str
    at: float | None = None
    findings: dict[str, Any] | None = None
    epochs: tuple[EpochView, ...] = ()
    canary: CanaryStatus | None = None


class OutcomeView(Shown):
    """One closed unit of a metric. `chances` are those that its arm had: see `findings`."""

    unit: str
    epoch: int
    arm: str
    value: float
    closed_at: float
    chances: dict[str, float]


class OutcomePage(Shown):
    """The closed units of one metric, in the order in which they closed; `next_offset` pages on."""

    metric: str
    stable: str
    candidate: str
    until: float
    sampled: float
    data: tuple[OutcomeView, ...]
    next_offset: int | None


class Resume(Taken):
    """Whether a canary that was stopped is begun again with its first step."""

    restart: bool = False


class Planned(Route):
    """A route, and what its experiment will be able to find at the present traffic."""

    plan: dict[str, Any] | None = Field(
        default=None, description="null where nothing is compared, or traffic can't be read"
    )
