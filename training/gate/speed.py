"""How fast each version answers here, beside the others: shown, and no part of the verdict.

The versions take turns on the same rows, so that whatever else the machine does meets them all. This is the
model in this process, in batches; what clients wait for, the canary's guardrails measure.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from training.data.rows import Example
from training.evaluation.systems import System

if TYPE_CHECKING:
    from training.evaluation.scorer import Scorer

ROWS = 8
ROUNDS = 3
MOST_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds a row: median, least and most over the rounds. `rank` and `size_bytes` are the adapter's."""

    role: str
    system: str
    s_per_row: float
    low: float
    high: float
    rank: int | None
    size_bytes: int | None


def speeds(
    scorer: "Scorer", systems: Mapping[str, System], rows: Sequence[Example], *, room: int
) -> list[Speed]:
    """Time every system, by turns, on the first rows."""
    from training.evaluation.answers import answer  # noqa: PLC0415 - imports torch

    template = scorer.template
    prompts = [template.prompt_ids(template.messages(row)) for row in rows[:ROWS]]
    taken: dict[str, list[float]] = {role: [] for role in systems}
    with scorer.progress.stage("Timing the versions"):
        for number in range(ROUNDS + 1):
            for role, system in systems.items():
                with scorer.speaking(system):
                    began = time.perf_counter()
                    answer(
                        scorer.model, scorer.base.tokenizer, prompts, max_new_tokens=min(room, MOST_TOKENS)
                    )
                    spent = time.perf_counter() - began
                if number:  # the first round warms up
                    taken[role].append(spent / len(prompts))
    return [_speed(role, systems[role], found) for role, found in taken.items()]


def _speed(role: str, system: System, taken: Sequence[float]) -> Speed:
    made = system.manifest
    return Speed(
        role,
        system.name,
        median(taken),
        min(taken),
        max(taken),
        made.rank if made else None,
        made.size_bytes if made else None,
    )
