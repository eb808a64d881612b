"""Trackers: MLflow in a local store, W&B by its interface, and failures that are not the training's."""

import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from training.runs.tracking import Guarded, Silent, tracker_of


class Broken:
    """A tracker of which nothing works."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Work."""

    def metrics(self, *_: Any) -> None:
        """Fail."""
        raise RuntimeError("the store is gone")

    def artifact(self, *_: Any) -> None:
        """Fail."""
        raise AssertionError("asked again")

    def flush(self) -> None:
        """Fail."""
        raise AssertionError("asked again")

    def end(self, **_: Any) -> None:
        """Fail."""
        raise AssertionError("asked again")


def test_a_tracker_that_fails_is_warned_of_once_and_left_out(tmp_path: Path) -> None:
    """Training goes on whatever the tracker does."""
    said: list[str] = []
    tracker = Guarded(Broken, said.append)
    tracker.start("run", {})
    tracker.metrics(1, {"loss": 1.0})
    tracker.metrics(2, {"loss": 1.0})
    tracker.artifact(tmp_path)
    tracker.flush()
    tracker.end(ok=True)
    assert said == ["not tracked any more: RuntimeError: the store is gone"]


def test_a_library_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wandb, `--track wandb` trains and says what is missing."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    said: list[str] = []
    tracker = tracker_of("wandb", uri=None, root=tmp_path, run=tmp_path, warn=said.append)
    tracker.start("run", {})
    tracker.metrics(1, {"loss": 1.0})
    (line,) = said
    assert "wandb" in line


def test_none_tracks_nothing(tmp_path: Path) -> None:
    """`--no-track` writes nowhere."""
    assert isinstance(tracker_of("none", uri=None, root=tmp_path, run=tmp_path, warn=lambda _: None), Silent)


def test_wandb_is_called_by_its_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has its name, its settings, its figures by step and its files (on a stand-in)."""
    calls: list[tuple[str, Any]] = []

    class Started:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append(("log", (step, values)))

        def save(self, path: str, **_: Any) -> None:
            calls.append(("save", Path(path).name))

        def finish(self, exit_code: int) -> None:
            calls.append(("finish", exit_code))

    def init(**options: Any) -> Started:
        calls.append(("init", (options["id"], options["resume"], options["config"])))
        return Started()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    tracker = tracker_of("wandb", uri=None, root=tmp_path, run=tmp_path, warn=pytest.fail)
    (tmp_path / "loss.png").touch()
    tracker.start("fruit-1", {"rank": 4})
    tracker.metrics(3, {"loss": 1.0})
    tracker.artifact(tmp_path / "loss.png")
    tracker.artifact(tmp_path / "missing.png")
    tracker.flush()
    tracker.end(ok=True)
    assert calls == [
        ("init", ("fruit-1", "allow", {"rank": 4})),
        ("log", (3, {"loss": 1.0})),
        ("save", "loss.png"),
        ("finish", 0),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_keeps_runs_in_a_local_store_and_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, figures by step and files are in the store; a resumed run is the same run."""
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    run = tmp_path / "fruit-1"
    run.mkdir()
    (run / "loss.png").write_bytes(b"picture")
    for step in (1, 2):
        tracker = tracker_of("mlflow", uri=None, root=tmp_path, run=run, warn=pytest.fail)
        tracker.start("fruit-1", {"rank": 4, "text": "x" * 9000})
        tracker.metrics(step, {"loss": 3.0 - step})
        tracker.flush()
        tracker.artifact(run / "loss.png")
        tracker.end(ok=step == 2)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("turnout")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["rank"] == "4"
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["loss.png"]
    assert list((tmp_path / "mlflow-artifacts").rglob("loss.png"))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
