"""Checkpoints that are whole or not there: written beside their place, and put there by one rename.

A run that is killed at any moment goes on from the last one, and ends with the very weights of a run that was
not killed. The library writes in place, so that a killed process leaves half a checkpoint under the name of a
whole one.
"""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState

from training.fitting.watching import Watch

PREFIX = "checkpoint-"
STAGING = ".writing"
TRASH = ".removing-"
KEPT = 2
_NEEDLESS = ("training_args.bin", "README.md")  # a pickle of paths, and a card of what is not published


class CheckpointFailed(OSError):
    """A checkpoint can't be written; the message says why, and which one is there to go on from."""


def whole(folder: Path) -> list[Path]:
    """Return the whole checkpoints in a folder, the oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=_step)


def state_of(checkpoint: Path) -> TrainerState:
    """Return what a checkpoint says of its run: the step, and what was logged before it."""
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


class WholeCheckpoints(Trainer):  # type: ignore[misc]  # transformers has no types here
    """A trainer whose checkpoints appear whole, with what watches the run in them. The last two are kept."""

    watch: Watch | None = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        home = Path(self.args.output_dir)
        staging = home / STAGING
        step = self.state.global_step
        if self.is_world_process_zero():
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.args.output_dir = str(staging)
        try:
            staging.mkdir(parents=True, exist_ok=True)
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                written = staging / f"{PREFIX}{step}"
                if self.watch is not None:
                    self.watch.save(written)
                _flush(written)
                _put(written, home / written.name)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointFailed(_told(error, step, home)) from error
        finally:
            self.args.output_dir = str(home)
            if self.is_world_process_zero():  # the others come here while it is still writing
                shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def stand_at(self, checkpoint: Path) -> None:
        """Take over a checkpoint's weights and step, without what only further steps need."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = state_of(checkpoint)
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of every adapter.

        Where a reference has a folder of its own, the library loads that, and not the adapter beside it.
        """
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        loaded = self.model if model is None else model
        if len(getattr(loaded, "peft_config", {})) > 1:
            trained = loaded.active_adapter
            loaded.load_adapter(resume_from_checkpoint, trained, is_trainable=True)
            loaded.set_adapter(trained)


def _flush(folder: Path) -> None:
    """Put a folder's files on the disk, so that a crash of the machine leaves them whole too."""
    for path in folder.rglob("*"):
        if path.name in _NEEDLESS:
            path.unlink()
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put(written: Path, place: Path) -> None:
    for left in place.parent.glob(f"{TRASH}*"):
        shutil.rmtree(left)
    if place.exists():  # a run that was resumed from an older one comes here again
        _remove(place)
    written.rename(place)
    for old in whole(place.parent)[:-KEPT]:
        _remove(old)


def _remove(folder: Path) -> None:
    """Remove a checkpoint, which is not there under its name from the first moment on."""
    trash = folder.with_name(f"{TRASH}{folder.name}")
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash)


def _told(error: Exception, step: int, home: Path) -> str:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    full = full or "No space left" in str(error)
    because = f"the disk of {home} is full" if full else str(error)
    kept = whole(home)
    then = (
        f"the checkpoint of step {_step(kept[-1])} is whole: free space and resume from it"
        if kept
        else "there is none before it: free space and start again"
    )
    return f"the checkpoint of step {step} can't be written: {because}; {then}"
