"""How large `make demo-loop` is, and how its time is compressed: by the product's own options.

What takes weeks in production (a reference of 7 days and 2,000 prompts, ratings that stay open for days, a
cooldown of a day) is set to minutes here. The rules that decide are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.demo.people import Habits

ADAPTER = "reviews"
THUMBS_WINDOW_H = 0.01
MARGIN = 0.1
TRAIN: Mapping[str, float] = {"learning_rate": 3e-4, "batch_size": 8, "max_test_rows": 16, "patience": 0}
"""Without patience: a training that goes on from a champion is worse than it at first, and would end then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts are rows, requests or minutes. `golden`: old rows that people chose to judge by.

    How many the gate asks for, to know whether a version is ten points worse, goes with how often versions
    differ: with 240 it asked for 104 more, and with 420 one attack had 47 too few. Likewise of new
    ones: 420 rows to train on leave 98 to judge by, and once it asked for 106.

    `burn_in` requests are old traffic after the promotion, the monitor's reference; then up to `shifted` new
    ones follow, `mixed` of which are still old, until the run has ended. `poisoned` requests are sent before
    a run is begun by hand, which trains on `most` rows, replayed ones included. `least` new rows to train on,
    and `trusted` held-out ones, are what the policy asks for: enough that a gain of twenty points shows.
    """

    taught: int = 200
    golden: int = 520
    tested: int = 300
    burn_in: int = 360
    shifted: int = 2400
    mixed: float = 0.2
    poisoned: int = 1000
    most: int = 560
    at_once: int = 4
    limit_min: float = 75.0
    least: int = 520
    trusted: int = 30
    habits: Habits = field(default_factory=Habits)
    seed: int = 23


QUICK = Plan(
    taught=96,
    golden=40,
    tested=40,
    burn_in=360,
    shifted=900,
    poisoned=80,
    limit_min=15.0,
    least=20,
    trusted=2,
)
"""Small enough to see whether all parts fit together; its figures mean nothing. Numbers (such as the length,
which tells these reviews apart) are watched from 300 reference rows on, so the burn-in is no smaller."""


def policy(plan: Plan, trusted_keys: tuple[str, ...], *, by_hand: bool) -> dict[str, Any]:
    """Return the route's loop policy: nobody is asked, and after too little data it soon tries again."""
    return {
        "triggers": ["manual"] if by_hand else ["drift", "feedback", "manual"],
        "min_new_examples": plan.least // 2 if by_hand else plan.least,
        "max_examples": plan.most if by_hand else 10_000,
        "cooldown_h": 0.03,
        "runs_per_week": 20,
        "approve": "never",
        "replay_share": 0.25,
        "cap_per_subject": 20,
        "trusted_keys": list(trusted_keys),
        "min_trusted_held_out": plan.trusted,
        "margin": MARGIN,
        "canary": {
            "steps": [0.25, 0.5],
            "min_units": 25,
            "step_deadline_h": 1,
            "guardrails": {"errors": 0.1, "thumbs": 0.15},
        },
        "max_retries": 1,
        "train": {**TRAIN, "epochs": 1, "validation_share": 0.04, "test_share": 0.06},
    }


def spec(version: str, loop: Mapping[str, Any]) -> dict[str, Any]:
    """Return the route's spec: one version, everything captured, thumbs that close within a minute."""
    return {
        "arms": [{"adapter": version, "share": 1.0}],
        "sticky": "subject",
        "capture": {"mode": "full", "redact": False},
        "metrics": {
            "thumbs": {"type": "bool", "better": "higher", "primary": True, "window_h": THUMBS_WINDOW_H}
        },
        "loop": dict(loop),
    }


SERVICE: Mapping[str, str] = {
    "TURNOUT_CONTROLLER__INTERVAL_S": "0.5",
    "TURNOUT_CONTROLLER__CANARY_EVERY_S": "5",
    "TURNOUT_LOOP__EVERY_S": "2",
    "TURNOUT_LOOP__WATCH": "false",
    "TURNOUT_ENGINE__MAX_MODEL_LEN": "512",
    "TURNOUT_ENGINE__CPU_KV_CACHE_GIB": "1",
    "TURNOUT_ENGINE__MAX_LORA_RANK": "8",
    "TURNOUT_LIMITS__FIRST_BYTE_TIMEOUT_S": "120",
}
"""What is set for the whole service. The watch is started beside it, with windows of its own.

The adapters are of rank 8. On a CPU most of the engine's time goes into copying adapter weights, for each
token and of the largest rank that is allowed: so no larger one is.
"""


def watch(plan: Plan) -> list[str]:
    """Return the options of `turnout monitor watch`: a small burn-in, and looks every few seconds.

    A month's traffic comes within hours here, so the budget of false alarms is that of thirty months.
    """
    rows = max(40, plan.burn_in * 9 // 10)
    return [
        "--every",
        "5",
        "--settle",
        "2",
        "--min-rows",
        str(rows),
        "--min-days",
        "0",
        "--false-alarms",
        "30",
    ]
