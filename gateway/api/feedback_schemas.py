"""What the admin API shows of ratings, signals and shadows. Times are seconds since the epoch."""

from gateway.api.admin_schemas import Shown
from gateway.core.routes import Shadow


class Rating(Shown):
    """One rating as it was given.

    `exposed_at` is when the rated request was made. `late`: the metric's window was over by then, so a unit
    that was closed was not scored again; null where the request's time is not known. `internal` ratings are
    of internal requests, and counted nowhere.
    """

    id: int
    at: float
    request_id: str
    adapter: str
    arm: str | None
    unit: str | None
    metric: str
    value: bool | float | str
    comment: str | None
    key_id: str
    exposed_at: float | None
    late: bool | None
    internal: bool


class RatingPage(Shown):
    """A route's ratings, newest first; `next_before_id` pages on and is null on the last page."""

    route: str
    data: tuple[Rating, ...]
    next_before_id: int | None


class SignalCount(Shown):
    """Of so many requests (`known`) of an arm the signal could be told; of so many it was `true`."""

    arm: str | None
    metric: str
    known: int
    true: int


class SignalCounts(Shown):
    """A route's implicit signals since a time, by arm; `requests` are those of which any could be told."""

    route: str
    since: float
    requests: int
    data: tuple[SignalCount, ...]


class ShadowSummary(Shown):
    """Pairs of one served version and one shadow since a time.

    `failed` shadows gave no answer. `same` answers are equal to the character, of `compared` pairs of which
    both texts are stored. Means are over the pairs whose shadow answered.
    """

    adapter: str
    shadow: str
    pairs: int
    failed: int
    compared: int
    same: int
    mean_latency_ms: float | None
    mean_shadow_latency_ms: float | None
    mean_completion_tokens: float | None
    mean_shadow_completion_tokens: float | None


class ShadowPair(Shown):
    """Two answers to one request: the client's, and the shadow's. A text that was not kept is null."""

    id: str
    shadow_id: str
    at: float
    endpoint: str
    adapter: str
    shadow: str
    prompt: str | None
    answer: str | None
    shadow_answer: str | None
    shadow_status: int
    shadow_error: str | None
    finish_reason: str | None
    shadow_finish_reason: str | None
    completion_tokens: int | None
    shadow_completion_tokens: int | None
    latency_ms: float
    shadow_latency_ms: float


class ShadowPage(Shown):
    """A route's pairs, newest first; `next_offset` is null on the last page. `shadow` is the spec's."""

    route: str
    since: float
    shadow: Shadow | None
    summary: tuple[ShadowSummary, ...]
    data: tuple[ShadowPair, ...]
    next_offset: int | None
