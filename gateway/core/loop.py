"""A route's loop: what may start a training by itself, and what stands between that and traffic.

`LoopPolicy` is what people decide, in a route's spec under `loop`. Every step of a run gets it as a file
(`policy.json`), which `read_policy` reads. Units are in the names: `_h` hours, `_share` and shares between 0
and 1; counts are plain numbers.
"""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.core.documents import Document, Share

Trigger = Literal["drift", "feedback", "schedule", "manual"]
Hours = Annotated[float, Field(gt=0, le=24 * 366, allow_inf_nan=False)]
Option = bool | int | float | Annotated[str, Field(max_length=200, pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$")]

TRAIN_OPTIONS = frozenset(
    {
        "rank", "alpha", "dropout", "dtype", "target_modules", "rslora", "beta", "instruction",
        "epochs", "learning_rate", "batch_size", "warmup_share", "schedule", "weight_decay", "max_grad_norm",
        "accumulation", "packing", "gradient_checkpointing", "unpack_base", "eval_steps", "patience",
        "max_tokens", "seed", "max_test_rows", "embeddings", "validation_share", "test_share",
    }
)  # fmt: skip
"""Options of `turnout train` that a policy may set: what is learned, and how. None of them names a file, an
address or a database, since a policy is written by whoever may write routes."""


class LoopCanary(Document):
    """The canary that a candidate of the loop gets, as `Canary` without its candidate.

    `steps`: shares of the traffic, growing. `min_units`: closed units of the candidate in each step.
    `step_deadline_h`: hours a step may take. `guardrails`: largest tolerated difference to the champion.
    """

    steps: tuple[Share, ...] = (0.05, 0.25)
    min_units: int = Field(default=60, ge=1)
    step_deadline_h: Hours = 24
    guardrails: dict[str, float] = Field(default_factory=lambda: {"errors": 0.02})
    failures_in_a_row: int = Field(default=5, ge=2, le=1000)
    evidence: Literal["units", "proof"] = "units"


class LoopShadow(Document):
    """Shadow traffic before the canary: `share` of the requests are answered once more, for `hours` hours."""

    share: Share = 0.05
    hours: Hours = 1


class Deadlines(Document):
    """How long each state of a run may last, in hours. What takes longer is ended, and the run fails.

    `review` and `approval` wait for people; a canary has its own deadline per step beside `canary`.
    """

    curating: Hours = 2
    review: Hours = 168
    approval: Hours = 168
    training: Hours = 24
    gating: Hours = 6
    shadowing: Hours = 24
    canary: Hours = 336


class LoopPolicy(Document):
    """What may start a training on a route, what it may learn from, and what it must pass.

    - `triggers`: what may start a run: drift of the prompts or answers, worse feedback (also on the same
      inputs), the schedule, a person.
    - `min_new_examples`: curated rows (count) that no version has learned from, below which nothing is
      trained.
    - `cooldown_h`: hours after a run ended, however it ended, in which none starts by itself.
    - `runs_per_week`: runs begun in any 168 hours, at most (count). A person's own runs count too.
    - `approve`: `always`: a person approves before the training and before the canary; `untrusted`: before
      the canary, when the gate had too few held-out rows from a trusted source; `never`: nobody is asked, and
      what would need it is not promoted.
    - `review`: rows count only once a person approved them.
    - `dry_run`: everything up to the choice of rows is done, and nothing is trained.
    - `method`: `sft`, `kto`, `dpo`, or `auto` for what the rows are for.
    - `begin_from`: training goes on from the `champion`, or begins at the `base`.
    - `max_examples`: training rows at most (count), replayed ones included.
    - `replay_share`: share of the training rows taken from what the champion was trained on.
    - `cap_per_subject`, `cap_per_key`: new rows that one subject or API key may bring (count).
    - `trusted_keys`: ids of API keys whose feedback is a trusted source of held-out rows.
    - `min_trusted_held_out`: new held-out rows from a trusted source (count) that promotion without a person
      needs.
    - `margin`: how much worse the candidate may be on old and golden rows (difference of shares,
      below .5).
    - `golden_uses`: uses of a golden set (count) after which its rotation is asked for.
    - `canary`, `shadow`: how the candidate meets traffic; no shadow by default.
    - `max_retries`: how often a step that failed is tried again (count).
    - `deadline_h`: hours that each state may last.
    - `schedule_h`: hours between scheduled runs; needed by, and only for, the trigger `schedule`.
    - `train`: options of `turnout train`, by their names with `_` for `-`; only those of `TRAIN_OPTIONS`.
    """

    triggers: tuple[Trigger, ...] = ("drift", "feedback", "manual")
    min_new_examples: int = Field(default=200, ge=1, le=10_000_000)
    cooldown_h: float = Field(default=24, ge=0, le=24 * 366, allow_inf_nan=False)
    runs_per_week: int = Field(default=3, ge=1, le=1000)
    approve: Literal["always", "untrusted", "never"] = "untrusted"
    review: bool = False
    dry_run: bool = False
    method: Literal["auto", "sft", "kto", "dpo"] = "auto"
    begin_from: Literal["champion", "base"] = "champion"
    max_examples: int = Field(default=10_000, ge=1, le=10_000_000)
    replay_share: float = Field(default=0.3, ge=0, lt=1)
    cap_per_subject: int = Field(default=20, ge=1)
    cap_per_key: int = Field(default=2_000, ge=1)
    trusted_keys: tuple[Annotated[str, Field(min_length=1, max_length=32)], ...] = Field(
        default=(), max_length=1000
    )
    min_trusted_held_out: int = Field(default=100, ge=0)
    # The gate has rows enough to find a gain of two margins, and none is as large as 1.
    margin: float = Field(default=0.05, gt=0, lt=0.5)
    golden_uses: int = Field(default=20, ge=1)
    canary: LoopCanary = LoopCanary()
    shadow: LoopShadow | None = None
    max_retries: int = Field(default=1, ge=0, le=10)
    deadline_h: Deadlines = Deadlines()
    schedule_h: Hours | None = None
    train: dict[str, Option] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _triggers_make_sense(self) -> Self:
        if len(set(self.triggers)) != len(self.triggers):
            raise ValueError("triggers name one more than once")
        if ("schedule" in self.triggers) != (self.schedule_h is not None):
            raise ValueError("the trigger 'schedule' and schedule_h (hours between runs) go together")
        return self

    @model_validator(mode="after")
    def _enough_can_come(self) -> Self:
        room = math.floor(self.max_examples * (1 - self.replay_share))
        if self.min_new_examples > max(1, room):
            raise ValueError(
                f"min_new_examples ({self.min_new_examples}) can never be there: of max_examples "
                f"({self.max_examples}) replay_share ({self.replay_share:g}) leaves {room} for new rows"
            )
        return self

    @model_validator(mode="after")
    def _steps_grow(self) -> Self:
        steps = self.canary.steps
        if not steps or steps[0] <= 0 or list(steps) != sorted(set(steps)) or not min(steps) < 1:
            raise ValueError("the steps of the canary must grow, from above 0, with one below 1")
        return self

    @model_validator(mode="after")
    def _options_may_be_set(self) -> Self:
        unknown = sorted(set(self.train) - TRAIN_OPTIONS)
        if unknown:
            raise ValueError(
                f"train can't set {', '.join(unknown)}; it can: {', '.join(sorted(TRAIN_OPTIONS))}"
            )
        return self


def read_policy(path: Path) -> LoopPolicy:
    """Return the policy of a run's `policy.json`.

    Raises:
        OSError: it can't be read.
        ValueError: it is no policy.
    """
    return LoopPolicy.model_validate_json(path.read_bytes())
