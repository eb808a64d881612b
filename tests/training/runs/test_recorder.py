"""What is written down while a run trains."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from training.runs import recorder as recording
from training.runs.folder import Run
from training.runs.plots import draw_losses
from training.runs.recorder import Recorder


class Notes:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the figures."""
        self.seen.append((step, dict(values)))

    def artifact(self, path: Path) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def end(self, *, ok: bool) -> None:
        """Do nothing."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run, with drawing left out."""
    monkeypatch.setattr(recording, "draw_losses", lambda *_: False)
    run = Run.create(tmp_path, "fruit")
    yield run
    run.release()


def test_steps_and_validations_are_written_with_tokens_and_seconds(run: Run) -> None:
    """A file tells the whole run, and a tracker the same."""
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0, 4.0])
    tracker = Notes()
    recorder = Recorder(run, tracker, clock=lambda: next(clock))
    recorder.on_log(1, {"loss": 3.0}, 100)
    recorder.on_log(2, {"loss": 2.0, "learning_rate": 1e-4}, 300)
    assert recorder.tokens_per_s == 100.0
    recorder.on_validation(2, 2.5)
    assert run.points() == [
        {"step": 1, "loss": 3.0, "tokens": 100, "seconds": 1.0},
        {"step": 2, "loss": 2.0, "learning_rate": 1e-4, "tokens": 300, "seconds": 3.0},
        {"step": 2, "validation_loss": 2.5, "seconds": 4.0},
    ]
    assert [step for step, _ in tracker.seen] == [1, 2, 2]
    assert tracker.seen[-1] == (2, {"validation_loss": 2.5})


def test_a_resumed_run_counts_its_time_on(run: Run) -> None:
    """The seconds before a stop are part of the run's, the pause is not."""
    run.append_metrics({"step": 5, "loss": 1.0, "seconds": 40.0})
    clock = iter([0.0, 2.0])
    recorder = Recorder(run, Notes(), clock=lambda: next(clock))
    recorder.on_log(6, {"loss": 0.9}, None)
    assert run.points()[-1] == {"step": 6, "loss": 0.9, "seconds": 42.0}


def test_the_loss_before_training_is_not_shown_beside_later_steps(run: Run) -> None:
    """Only a validation of the training itself stands beside later steps, also after a resume."""
    shown: list[float | None] = []

    class Bar:
        def at(self, *_: object, validation: float | None, **_more: object) -> None:
            shown.append(validation)

    bar: Any = Bar()
    for _ in range(2):
        recorder = Recorder(run, Notes())
        recorder.shown_on(bar)
        recorder.on_validation(0, 3.0)
        recorder.on_step(1, 9, 2.0)
        recorder.on_validation(2, 1.5)
        recorder.on_step(3, 9, 1.0)
    recorder = Recorder(run, Notes())
    recorder.shown_on(bar)
    recorder.on_step(4, 9, 1.0)
    assert shown == [None, 1.5, 1.5, 1.5, 1.5]


def test_without_validations_the_training_loss_is_drawn_each_minute_and_at_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without validation rows has its picture too, and what it took is written down."""
    drawn: list[int] = []
    monkeypatch.setattr(recording, "draw_losses", lambda points, _path: drawn.append(len(points)))
    clock = iter([0.0, 1.0, 59.0, 61.0, 62.0, 63.0])
    recorder = Recorder(run, Notes(), clock=lambda: next(clock))
    for step in range(1, 5):
        recorder.on_log(step, {"loss": 1.0 / step}, None)
    assert drawn == [3]
    recorder.done()
    assert drawn == [3, 4]
    assert run.read().training_s == 63.0


@pytest.mark.slow
def test_the_training_loss_alone_is_a_picture(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--validation-share 0` gives it."""
    monkeypatch.setattr(recording, "draw_losses", draw_losses)
    recorder = Recorder(run, Notes())
    for step in (1, 2):
        recorder.on_log(step, {"loss": 1.0 / step}, 100 * step)
    recorder.done()
    assert run.plot.read_bytes().startswith(b"\x89PNG")
