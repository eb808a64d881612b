"""The documents of `/admin`: what it takes and what it shows. Times are seconds since the epoch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.routes import Route, RouteSpec

Text = Annotated[str, Field(max_length=2000)]


class Taken(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shown(BaseModel):
    """A document of an answer."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Fault(Shown):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Shown):
    """What every failed request is answered with."""

    error: Fault


# Routes


class RoutePut(Taken):
    """A route's spec, alone or in the document that GET shows. All but the spec is not written."""

    name: str | None = None
    spec: RouteSpec
    generation: int | None = Field(default=None, description="ignored: name it in If-Match")
    status: dict[str, Any] | None = Field(default=None, description="ignored: the controller owns it")
    fault: str | None = Field(default=None, description="ignored: a spec that is put has none")

    @model_validator(mode="before")
    @classmethod
    def _a_bare_spec_is_one_too(cls, data: Any) -> Any:
        return {"spec": data} if isinstance(data, dict) and "arms" in data else data


class RoutePage(Shown):
    """A page of routes by name; `next_after` is null on the last one."""

    data: tuple[Route, ...]
    next_after: str | None


class Promote(Taken):
    """The version that gets all traffic; without one, the canary's candidate."""

    adapter: str | None = None


class Rollback(Taken):
    """The generation whose spec comes back; without one, the spec before the present one."""

    to_generation: int | None = Field(default=None, ge=1)


class EventView(Shown):
    """One change: who, from where, when, what, why, and the documents before and after.

    `actor` is a key's id or a part of the gateway, `actor_name` the key's label then, `address` where the
    request came from.
    """

    id: int
    at: float
    actor: str
    actor_name: str | None = None
    address: str | None = None
    action: str
    subject: str
    why: str | None
    generation_before: int | None
    generation: int | None
    before: Any
    after: Any


class EventPage(Shown):
    """Events, newest first; `next_before_id` pages on and is null on the last page.

    Asked for with `after_id` they come oldest first, and `next_after_id` pages on.
    """

    data: tuple[EventView, ...]
    next_before_id: int | None
    next_after_id: int | None = None


# The fleet


class Replica(Shown):
    """One engine and what is on it. `incarnation_age_s` is how long this engine process runs.

    `quarantined_until` (seconds since the epoch) is null for a replica that is not left alone.
    """

    id: str
    url: str
    healthy: bool
    reason: str | None
    seen_at: float | None
    incarnation: str | None
    incarnation_age_s: float | None
    capacity: dict[str, Any]
    attested: tuple[str, ...]
    weak: tuple[str, ...] = Field(default=(), description="those of `attested` whose proof leans on digests")
    registered: tuple[str, ...]
    failed: tuple[str, ...]
    quarantined_until: float | None = None


class Worker(Shown):
    """One gateway worker's last sign of life."""

    id: str
    alive: bool
    applied_generation: int
    in_flight: dict[str, int]
    seen_at: float


class Controller(Shown):
    """Who holds the controller's lease."""

    holder: str
    epoch: int
    alive: bool
    expires_at: float


class Problem(Shown):
    """Something that is not well, and what to do about it."""

    what: str
    todo: str


class Waiting(Shown):
    """A run of the loop that waits for a person, and what to call; it is no problem yet.

    `asks`: `start` and `rollout` want an approval, `review` wants `rows` rows reviewed.
    """

    route: str
    run: str
    asks: str
    since: float
    candidate: str | None
    rows: int | None
    todo: str


class Status(Shown):
    """The whole service at one moment; all is well when `problems` is empty."""

    version: str
    at: float
    generation: int
    base: str
    controller: Controller | None
    replicas: tuple[Replica, ...]
    routes: tuple[Route, ...]
    workers: tuple[Worker, ...]
    waiting: tuple[Waiting, ...]
    problems: tuple[Problem, ...]


# Usage, drift


class UsageRow(Shown):
    """Requests, errors (status 400 and above) and tokens of a group. What it is not grouped by is null.

    `at` is when the row's bucket begins, and `label` the key's.
    """

    at: float | None = None
    key_id: str | None = None
    label: str | None = None
    tenant: str | None = None
    route: str | None = None
    adapter: str | None = None
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int


class Usage(Shown):
    """A page of usage, in order of time and groups, from `since` to before `until`: whole hours."""

    since: float
    until: float
    bucket: str | None
    group_by: tuple[str, ...]
    data: tuple[UsageRow, ...]
    next_after: str | None


class DriftVerdict(Shown):
    """One verdict of the drift monitor on one route, and where its report lies.

    `kind` is `look` for one comparison of two windows, and `sequential` for a look of the watch, which alone
    has the fields from `severity` on. `evidence` and `threshold` are natural logarithms. `looked_from` and
    `looked_to` are when the requests that count were made, and `adapter` is the version watched.
    """

    id: int
    at: float
    route: str
    verdict: str
    figures: dict[str, Any]
    report_html: str | None
    report_json: str | None
    kind: Literal["look", "sequential"] = "look"
    severity: Literal["ignore", "watch", "retrain", "too_little_data"] | None = None
    cause: Literal["drift", "feedback", "concept", "none"] | None = None
    evidence: float | None = None
    threshold: float | None = None
    effect: float | None = None
    looked_from: float | None = None
    looked_to: float | None = None
    adapter: str | None = None


class DriftWatch(Shown):
    """Where the watch of one route stands; times are seconds since the epoch.

    `basis` says where its reference begins and why, `alarms` when each stream last raised one, `due_at` when
    the next look is promised, `failed` how many looks could not be made, and `error` why the last could not.
    """

    route: str
    adapter: str | None
    basis: dict[str, Any]
    looked_at: float | None
    due_at: float | None
    seen_at: float
    failed: int
    error: str | None
    alarms: dict[str, float]
    figures: dict[str, Any]


class DriftPage(Shown):
    """The newest verdict of each route, or one route's verdicts, newest first; where the watches stand."""

    data: tuple[DriftVerdict, ...]
    watches: tuple[DriftWatch, ...] = ()
    report_root: str
    running: tuple[str, ...]


class DriftRun(Taken):
    """Which route to look at; without one, every route."""

    route: str | None = None


class DriftStarted(Shown):
    """The routes that are looked at, and the file that the run writes its output to."""

    routes: tuple[str, ...]
    log: str
