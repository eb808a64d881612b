"""One of the processes that train together: what it leaves when it ends, well or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.data.rows import Example
from training.data.splits import Splits
from training.runs import worker
from training.runs.folder import Run
from training.runs.order import Order
from training.runs.snapshot import Snapshot
from training.runs.spread import FAULT
from training.runs.tracking import tracker_of

FIGURES = 3


class Making:
    """A training that logs a few figures, and then ends as it is told."""

    end: BaseException | None = None

    def __init__(self, *_: Any, listener: Any, **__: Any) -> None:
        self._listener = listener

    def train(self, *, first: bool) -> None:
        """Log, and end."""
        assert first is (self._listener is not None)
        for step in range(1, FIGURES + 1) if first else ():
            self._listener.on_log(step, {"loss": 1.0 / step}, None)
        if self.end is not None:
            raise self.end


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run whose starting process has prepared its rows, and a worker that joins nobody."""
    found = Run.create(tmp_path, "fruit")
    found.update(order=Order(name="fruit", source="x").document())
    row = Example(({"role": "user", "content": "hi"},), "ho", 1)
    found.write("rows.jsonl", Snapshot("examples", Splits((row,), (), ())).text())
    for name in ("joined", "part", "job_of"):
        monkeypatch.setattr(worker, name, lambda *_: None)
    monkeypatch.setattr(worker, "Maker", Making)
    monkeypatch.setattr(Making, "end", None)
    yield found
    found.release()


class Waiting:
    """A tracker that keeps figures until it is flushed, as MLflow's does for a few seconds."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.sent: list[int] = []

    def start(self, *_: Any) -> None:
        """Do nothing."""

    def metrics(self, step: int, _values: Any) -> None:
        """Keep the step."""
        self.waiting.append(step)

    def flush(self) -> None:
        """Send what waits."""
        self.sent, self.waiting = self.sent + self.waiting, []


@pytest.mark.parametrize(
    ("end", "code"), [(None, 0), (ValueError("it does not fit"), 1), (KeyboardInterrupt(), 130)]
)
def test_the_last_figures_are_sent_however_it_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch, end: BaseException | None, code: int
) -> None:
    """The starting process has none of them, and could not send them."""
    tracker = Waiting()
    monkeypatch.setattr(worker, "tracker_of", lambda *_, **__: tracker)
    monkeypatch.setattr(Making, "end", end)
    assert worker.main(run.path) == code
    assert tracker.sent == [1, 2, 3]
    assert (run.text(FAULT) is not None) == (code == 1)
    assert (run.read().training_s is not None) == (code == 0)


def test_the_others_track_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process tells of a step that all have done."""
    monkeypatch.setattr(worker, "rank", lambda: 1)
    monkeypatch.setattr(worker, "tracker_of", lambda *_, **__: pytest.fail("a second tracker"))
    assert worker.main(run.path) == 0
    assert run.points() == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_figures_are_in_the_run_that_the_starting_process_has_begun(run: Run) -> None:
    """MLflow has every step when the worker has ended, and the run is still open."""
    root = run.path.parent
    tracker_of("mlflow", uri=None, root=root, run=run.path, warn=pytest.fail).start(run.path.name, {})
    assert worker.main(run.path) == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    kept = (run.path / "mlflow-run").read_text(encoding="utf-8").strip()
    assert [point.step for point in client.get_metric_history(kept, "loss")] == [1, 2, 3]
    assert client.get_run(kept).info.status == "RUNNING"
