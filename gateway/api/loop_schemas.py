"""The documents of `/admin/loop`. Times are seconds since the epoch."""

from typing import Any

from pydantic import Field

from gateway.api.admin_schemas import Shown
from gateway.core.loop import LoopPolicy


class RunSummary(Shown):
    """A run of the loop in short.

    `asks` is what it waits for a person to approve: `start` or `rollout`. `drift_id` names the look that
    started it, `champion` what the candidate is compared with. `starts` counts the processes that worked.
    """

    id: str
    route: str
    trigger: str
    cause: str
    actor: str
    state: str
    since: float
    created_at: float
    ended_at: float | None
    reason: str | None
    champion: str
    candidate: str | None
    verdict: str | None
    drift_id: int | None
    drift_at: float | None
    asks: str | None
    starts: int
    attempt: int
    host: str | None


class RunView(RunSummary):
    """A run with what its steps said (by `curate`, `train` and `gate`), who approved, and its policy."""

    approvals: dict[str, Any]
    stop: dict[str, Any] | None
    results: dict[str, Any]
    policy: LoopPolicy
    folder: str = Field(description="on the machine `host`")


class RunsPage(Shown):
    """Runs, the newest first; `next_before` pages on."""

    data: tuple[RunSummary, ...]
    next_before: str | None = None


class LoopOfRoute(Shown):
    """How the loop of one route stands.

    `waits` says why no run begins now, and `wait_s` for how many seconds that is so, where it is known.
    """

    route: str
    policy: LoopPolicy
    paused_at: float | None = None
    paused_by: str | None = None
    why: str | None = None
    run: RunSummary | None = None
    last: RunSummary | None = None
    waits: str | None = None
    wait_s: float | None = None


class LoopPage(Shown):
    """Every route that has a loop."""

    data: tuple[LoopOfRoute, ...]
