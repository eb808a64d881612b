"""What a run will take, before it begins: steps, tokens, memory and time, each with what it rests on.

Steps and tokens are counted. Memory follows from the model's shape (training.fitting.memory). Time comes from
real steps, or from earlier runs on this machine, or is said to be unknown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from training.progress import duration
from training.runs.folder import RunState

PARTS = {
    "weights": "base model",
    "unpacked": "its 4-bit weights unpacked",
    "trained": "trained weights with gradients and AdamW's moments",
    "activations": "activations",
    "logits": "logits",
}


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of training, and what that rests on. None where nothing is known."""

    seconds: float | None
    rests_on: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `--dry-run` prints. `tokens` are those of one pass over the training rows; memory is bytes.

    `advice` says with which options the run fits, where it does not.
    """

    rows: Mapping[str, int]
    too_long: int
    steps: int
    tokens: int
    longest: int
    trained_weights: int
    memory: Mapping[str, int]
    free: int | None
    choices: Mapping[str, bool]
    time: Time
    advice: str | None = None

    @property
    def total(self) -> int:
        """The memory that the heaviest step takes, without the libraries."""
        return sum(self.memory.values())

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "memory": {**self.memory, "total": self.total}}

    def lines(self) -> list[str]:
        """Return the figures for people."""
        rows = ", ".join(f"{count} {split}" for split, count in self.rows.items())
        dropped = f"; {self.too_long} to train on are too long and left out" if self.too_long else ""
        chosen = ", ".join(
            f"{name.replace('_', ' ')} {'on' if on else 'off'}" for name, on in self.choices.items()
        )
        room = "" if self.free is None else f", and {_gb(self.free)} are free"
        found = [
            f"rows    {rows}{dropped}",
            f"tokens  {self.tokens:,} in a pass; the longest row has {self.longest:,}",
            f"steps   {self.steps:,}",
            f"weights {self.trained_weights:,} are trained",
            f"memory  {_gb(self.total)} at the peak by the model's shape, libraries not counted{room}",
            *(
                f"        {_gb(self.memory[part])} {what}"
                for part, what in PARTS.items()
                if self.memory[part]
            ),
            f"        with {chosen}",
            *([f"        does not fit: {self.advice}"] if self.advice else []),
        ]
        if self.time.seconds is None:
            found.append(f"time    not known: {self.time.rests_on}")
        else:
            found.append(f"time    {duration(self.time.seconds)} of training: {self.time.rests_on}")
        return found


def steps_of(rows: int, batch_size: int, epochs: float) -> int:
    """Return the optimizer steps of a run without packing of texts."""
    return math.ceil(epochs * math.ceil(rows / batch_size))


def time_of(
    steps: int, tokens: int, *, measured_s: Sequence[float] = (), speeds: Sequence[float] = ()
) -> Time:
    """Return the time of training.

    `measured_s` are the seconds of real steps of this very run; `speeds` the tokens a second of earlier runs
    with the same base model, method and machine. `tokens` are those of all passes.
    """
    if measured_s:
        each = median(measured_s)
        return Time(round(each * steps, 1), f"{len(measured_s)} real steps took {each:.2f} s each")
    if speeds:
        pace = median(speeds)
        runs = "an earlier run" if len(speeds) == 1 else f"{len(speeds)} earlier runs"
        return Time(round(tokens / pace, 1), f"{runs} like it on this machine made {pace:,.0f} tokens/s")
    return Time(None, "no earlier run like it on this machine; --measure times a few steps")


def speeds_of(states: Iterable[RunState], *, base: Mapping[str, Any], method: str, host: str) -> list[float]:
    """Return the tokens a second of finished runs on this machine with the same base model and method."""
    return [
        state.tokens_per_s
        for state in states
        if state.tokens_per_s
        and state.state == "finished"
        and state.host == host
        and state.config.get("method") == method
        and state.base == base
    ]


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count < 10e9 else f"{count / 1e9:.0f} GB"
