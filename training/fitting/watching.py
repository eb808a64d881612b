"""What watches a run: reports of its steps, and the best weights by the validation loss.

The best weights are kept in memory, since an adapter's are small, and go into every checkpoint, so that a run
that is resumed knows them too.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

OnStep = Callable[[int, int, float | None], None]
OnValidation = Callable[[int, float], None]
STATE = "turnout.json"
BEST = "best.safetensors"


@dataclass(slots=True)
class Seen:
    """What a run has shown so far. `worse` counts the validations since the best; padding is no token."""

    tokens: int = 0
    first: float | None = None
    best: float | None = None
    best_step: int = 0
    worse: int = 0


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Reports steps and validations; ends the run after `patience` validations without a better loss."""

    def __init__(
        self, model: Any, *, patience: int, on_step: OnStep, on_validation: OnValidation | None
    ) -> None:
        self._model = model
        self._patience = patience
        self._on_step = on_step
        self._on_validation = on_validation
        self._loss: float | None = None
        self._kept: dict[str, torch.Tensor] = {}
        self.seen = Seen()
        self.failed = False

    def on_log(self, _args: Any, _state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the latest loss; a loss that is no number ends the run."""
        self._loss = (logs or {}).get("loss", self._loss)
        if self._loss is not None and not math.isfinite(self._loss):
            self.failed = True
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Report one optimizer step."""
        self._on_step(state.global_step, state.max_steps, self._loss)

    def on_evaluate(self, _args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Report a validation, keep the weights if it is the best, and end the run when patience ends."""
        loss = (metrics or {}).get("eval_loss")
        if loss is None:
            return
        if self._on_validation is not None:
            self._on_validation(state.global_step, loss)
        if self.note(state.global_step, loss):
            control.should_training_stop = True

    def note(self, step: int, loss: float) -> bool:
        """Take in a validation's loss; return whether patience has come to its end."""
        if self.seen.first is None:
            self.seen.first = loss
        if self._patience == 0:
            return False
        if self.seen.best is None or loss < self.seen.best:
            self.seen.best, self.seen.best_step, self.seen.worse = loss, step, 0
            self._kept = {name: weight.detach().clone() for name, weight in self._trainable().items()}
            return False
        if step > self.seen.best_step:
            self.seen.worse += 1
        return self.spent

    @property
    def spent(self) -> bool:
        """Whether patience has come to its end."""
        return 0 < self._patience <= self.seen.worse

    def restore(self) -> None:
        """Put the best weights back, if there are any."""
        with torch.no_grad():
            for name, weight in self._trainable().items():
                if name in self._kept:
                    weight.copy_(self._kept[name])

    def save(self, folder: Path) -> None:
        """Write what was seen, and the best weights, into a checkpoint."""
        (folder / STATE).write_text(json.dumps(asdict(self.seen)), encoding="utf-8")
        if self._kept:
            save_file({name: weight.contiguous() for name, weight in self._kept.items()}, folder / BEST)

    def load(self, folder: Path) -> None:
        """Read what was seen from a checkpoint."""
        self.seen = Seen(**json.loads((folder / STATE).read_text(encoding="utf-8")))
        if (folder / BEST).is_file():
            own = self._trainable()
            self._kept = {
                name: weight.to(own[name].device) for name, weight in load_file(folder / BEST).items()
            }

    def _trainable(self) -> dict[str, torch.Tensor]:
        return {name: weight for name, weight in self._model.named_parameters() if weight.requires_grad}
