"""One training run, whatever its method: from the first step or the last checkpoint to the best weights."""

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from training.fitting.building import REFERENCE, build_trainer
from training.fitting.checkpoints import CheckpointFailed, state_of, whole
from training.fitting.plan import at_speed, memory_watched
from training.fitting.room import DoesNotFit

__all__ = ["CheckpointFailed", "DoesNotFit", "Fit", "build_trainer", "fit"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What training did. Losses are the method's own; None where there was no validation row.

    For `sft` and `domain` they are mean nats per token that has a loss. `steps` is where it ended,
    `best_step` the step whose weights were kept; `tokens` were trained on, without padding (0 where they are
    not counted).
    """

    steps: int
    seconds: float
    loss: float
    validation_before: float | None
    validation_after: float | None
    best_step: int = 0
    tokens: int = 0


def fit(trainer: Any, *, resume: bool = False) -> Fit:
    """Train to the end, with the validation loss before and after; with patience, the best weights are kept.

    With `resume` it goes on from the last whole checkpoint, if there is one: with the same number of threads
    the weights at the end are the very ones of a run that was never stopped.

    Raises:
        ValueError: the loss is no longer a number; the learning rate is too high.
        DoesNotFit: the memory does not suffice; options with which it does are proposed.
        CheckpointFailed: a checkpoint can't be written.
    """
    started = time.monotonic()
    watch = trainer.watch
    kept = whole(Path(trainer.args.output_dir)) if resume else []
    start = kept[-1] if kept else None
    with memory_watched(trainer.plan), at_speed(trainer.model, trainer.plan), warnings.catch_warnings():
        # At each checkpoint PEFT looks for the base by name, to see whether the vocabulary was changed.
        warnings.filterwarnings("ignore", message="Could not find a config file in")
        if start is None:
            _validate(trainer)
        else:
            watch.load(start)
        steps, loss = _ended_at(trainer, start) or _trained(trainer, start)
        if watch.failed or not math.isfinite(loss):
            raise ValueError("the loss is not a number any more; train with a lower --learning-rate")
        after = _validate(trainer)
    best, step = watch.seen.best, steps
    if best is not None and after is not None and after > best:
        watch.restore()
        after, step = best, watch.seen.best_step
    if REFERENCE in getattr(trainer.model, "peft_config", {}):
        trainer.model.delete_adapter(REFERENCE)
    seconds = time.monotonic() - started
    return Fit(
        steps,
        seconds,
        loss,
        watch.seen.first,
        after,
        best_step=step,
        tokens=watch.seen.tokens,
    )


def _trained(trainer: Any, start: Path | None) -> tuple[int, float]:
    """Train, and return the last step and the mean loss of the steps since `start`."""
    done = trainer.train(resume_from_checkpoint=None if start is None else str(start))
    return done.global_step, float(done.training_loss)


def _ended_at(trainer: Any, start: Path | None) -> tuple[int, float] | None:
    """Return the last step and the mean loss of a run whose last checkpoint is its end; None of another.

    The trainer's loop does a step before it looks whether one is left, and forgets as it begins that patience
    was used up: it would end with other weights than a run that was not stopped.
    """
    if start is None:
        return None
    state = state_of(start)
    if state.global_step < trainer.args.max_steps and not trainer.watch.spent:
        return None
    trainer.stand_at(start)
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return state.global_step, fmean(losses) if losses else 0.0


def _validate(trainer: Any) -> float | None:
    if trainer.eval_dataset is None:
        return None
    return float(trainer.evaluate()["eval_loss"])
