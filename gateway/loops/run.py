"""A run of the loop: the states it passes, and what is known of it in each.

    proposed → (waiting_approval) → curating → (waiting_review) → training → gating → (waiting_approval)
             → (shadowing) → canary → promoted

and it may end before: `rejected`, `too_little_data`, `dry_run`, `failed`, `gate_failed`, `rolled_back`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gateway.core.loop import LoopPolicy, Trigger

OpenState = Literal[
    "proposed",
    "waiting_approval",
    "curating",
    "waiting_review",
    "training",
    "gating",
    "shadowing",
    "canary",
]
EndState = Literal[
    "promoted", "rejected", "too_little_data", "dry_run", "failed", "gate_failed", "rolled_back"
]
State = OpenState | EndState
Asked = Literal["start", "rollout"]
"""What a person approves: that rows are chosen and trained on, or that the version meets traffic."""

OPEN: frozenset[str] = frozenset(get_args(OpenState))
ENDS: frozenset[str] = frozenset(get_args(EndState))
STATES: tuple[str, ...] = (*get_args(OpenState), *get_args(EndState))
STEPS: Mapping[str, str] = {"curating": "curate", "training": "train", "gating": "gate"}
"""The states in which a process works, and what its result's file is called (without `.json`)."""

ON_ROUTE: frozenset[str] = frozenset({"shadowing", "canary"})
"""The states in which the route's spec names the candidate."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are seconds since the epoch.

    `cause` is what was found (`drift`, `feedback`, `concept`), or the trigger again. `starts` counts the
    processes that were started for it, `attempt` those of the present state. `approvals` says who approved
    what; `stop` who wants it ended. `results` holds what its steps said, by `curate`, `train` and `gate`;
    `verdict` is the gate's.
    `generation` is the route's generation that the run's own change of the spec made, in this state.
    `revision` counts the changes of this row.
    """

    id: str
    route: str
    trigger: Trigger
    cause: str
    actor: str
    policy: LoopPolicy
    state: State
    since: float
    created_at: float
    champion: str
    ended_at: float | None = None
    reason: str | None = None
    candidate: str | None = None
    verdict: str | None = None
    drift_id: int | None = None
    drift_at: float | None = None
    starts: int = 0
    attempt: int = 0
    approvals: Mapping[str, Any] = field(default_factory=dict)
    stop: Mapping[str, Any] | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    generation: int | None = None
    host: str | None = None
    revision: int = 1

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    @property
    def working(self) -> bool:
        """Whether it has a place among the runs that work at once: a process of it may be running."""
        return self.state in STEPS

    @property
    def asks(self) -> Asked | None:
        """What it waits for a person to approve; None when it does not."""
        if self.state != "waiting_approval":
            return None
        return "rollout" if self.candidate else "start"


def deadline_s(run: Run) -> float | None:
    """Return how many seconds the present state may last; None where it may for ever."""
    hours = run.policy.deadline_h
    by_state = {
        "waiting_approval": hours.approval,
        "curating": hours.curating,
        "waiting_review": hours.review,
        "training": hours.training,
        "gating": hours.gating,
        "shadowing": hours.shadowing + (run.policy.shadow.hours if run.policy.shadow else 0.0),
        "canary": hours.canary,
    }
    found = by_state.get(run.state)
    return None if found is None else found * 3600
