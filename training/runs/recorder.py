"""What happens during training, told to everyone who wants it: progress, metrics, plot and tracker."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from training.progress import Stage
from training.runs.folder import Run
from training.runs.plots import draw_losses
from training.runs.tracking import Tracker

DRAW_S = 60.0
"""How old the picture of the losses may be while nothing validates."""


class Listener(Protocol):
    """Who is told of steps and validations."""

    def shown_on(self, stage: Stage) -> None:
        """Steps are shown on a bar from now on."""

    def on_step(self, step: int, steps: int, loss: float | None) -> None:
        """One optimizer step is done."""

    def on_log(self, step: int, values: dict[str, float], tokens: int | None) -> None:
        """Figures were computed. `tokens` are those trained on so far."""

    def on_validation(self, step: int, loss: float) -> None:
        """The validation loss at a step is known."""


class Recorder:
    """Writes figures down in the run's folder and passes them on. One in a run, in the first process."""

    def __init__(self, run: Run, tracker: Tracker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._tracker = tracker
        self._clock = clock
        points = run.points()
        # A resumed run's clock goes on where its last line stands.
        self._before = float(points[-1].get("seconds", 0.0)) if points else 0.0
        self._started = clock()
        self._drawn_at = self._before
        self._began: tuple[int, float] | None = None
        self._validation: float | None = next(
            (
                point["validation_loss"]
                for point in reversed(points)
                if "validation_loss" in point and point["step"]
            ),
            None,
        )
        self._tokens_per_s: float | None = None
        self._stage: Stage | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """The speed since this process began to train; None before it is known."""
        return self._tokens_per_s

    @property
    def seconds(self) -> float:
        """The seconds of training, those before a resume included."""
        return round(self._before + self._clock() - self._started, 3)

    def shown_on(self, stage: Stage) -> None:
        """Show steps on a bar from now on."""
        self._stage = stage

    def on_step(self, step: int, steps: int, loss: float | None) -> None:
        """Move the bar."""
        if self._stage is not None:
            self._stage.at(step, steps, loss, validation=self._validation, tokens_per_s=self._tokens_per_s)

    def on_log(self, step: int, values: dict[str, float], tokens: int | None) -> None:
        """Write down a logged step."""
        if tokens is not None:
            self._pace(tokens)
        point: dict[str, Any] = {"step": step, **values}
        if tokens is not None:
            point["tokens"] = tokens
        seconds = self.seconds
        self._run.append_metrics({**point, "seconds": seconds})
        self._tracker.metrics(step, {name: float(value) for name, value in point.items() if name != "step"})
        if seconds > self._drawn_at + DRAW_S:
            self._draw(at=seconds)

    def on_validation(self, step: int, loss: float) -> None:
        """Write down a validation, and draw the losses again."""
        if step:  # that of before the first step would stand beside every step where there is no other
            self._validation = loss
        seconds = self.seconds
        self._run.append_metrics({"step": step, "validation_loss": loss, "seconds": seconds})
        self._tracker.metrics(step, {"validation_loss": loss})
        self._draw(at=seconds)

    def done(self) -> None:
        """Draw the losses to the last step, and write down what training took: later estimates rest on it."""
        seconds, speed = self.seconds, self._tokens_per_s
        self._draw(at=seconds)
        self._run.update(training_s=seconds, tokens_per_s=None if speed is None else round(speed, 1))

    def _draw(self, *, at: float) -> None:
        self._drawn_at = at
        draw_losses(self._run.points(), self._run.plot)

    def _pace(self, tokens: int) -> None:
        now = self._clock()
        if self._began is None:
            self._began = (tokens, now)
        elif now > self._began[1] and tokens > self._began[0]:
            self._tokens_per_s = (tokens - self._began[0]) / (now - self._began[1])
