"""What a run's next move is decided from, and what a move is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gateway.core.routes import Route
from gateway.loops.run import State

StepState = Literal["idle", "running", "done", "died", "blocked", "refused", "elsewhere"]
Act = Literal["start", "kill", "shadow", "canary", "settle", "clear"]


@dataclass(frozen=True, slots=True)
class Step:
    """How the process of the present state is doing.

    | state | means |
    |---|---|
    | `idle` | it was not started yet, or was stopped with its controller: it can be started |
    | `running` | somebody started it, and it works |
    | `done` | `result` is there |
    | `died` | it ended without one; `again`: another try may help |
    | `blocked` | it can't be started now, and may later |
    | `refused` | it can't be started at all: something is missing |
    | `elsewhere` | another machine has the run's folder |

    `age_s`: seconds since it died.
    """

    state: StepState = "idle"
    result: Mapping[str, Any] | None = None
    reason: str | None = None
    again: bool = True
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything around a run.

    `age_s`: seconds in the present state. `place`: whether it may become one of those that work.
    `unreviewed`: rows that wait for a person; None when that is not known.
    """

    age_s: float
    route: Route | None
    step: Step = Step()
    place: bool = True
    paused: bool = False
    unreviewed: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A change of state with its reason, and one thing to do before it.

    Without `to`, a reason is only noted. `updates` are other fields of the run.
    """

    to: State | None = None
    reason: str | None = None
    act: Act | None = None
    updates: Mapping[str, Any] = field(default_factory=dict)

    def with_updates(self, **more: Any) -> "Move":
        """Return the move with more fields of the run."""
        return replace(self, updates={**self.updates, **more})


STAY = Move()
