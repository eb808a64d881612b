"""The trainer's callback that reports logged steps. In a file of its own, since it imports transformers."""

from typing import Any

from transformers import TrainerCallback

from training.runs.recorder import Listener

KEPT = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm", "epoch": "epoch"}
"""Figures of the trainer that are written down, and what they are called there."""


class Reports(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Tells a listener what the trainer logs, from the first process only."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """Pass on the figures of a step; those of evaluations come by another way."""
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        values = {ours: float(logs[theirs]) for theirs, ours in KEPT.items() if theirs in logs}
        tokens = logs.get("tokens", logs.get("num_tokens"))
        self._listener.on_log(int(state.global_step), values, None if tokens is None else int(tokens))
