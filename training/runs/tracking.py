"""Experiment trackers: MLflow in a local store, Weights & Biases by option, or none.

MLflow writes into `mlflow.db` and `mlflow-artifacts/` beside the runs; no server, and nothing leaves the
machine unless a tracking server was named. Its own usage reports are switched off before it is imported.
A tracker that fails never fails the training: it is warned of once and left out from then on.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

EXPERIMENT = "turnout"
MAX_PARAM_CHARS = 500
"""What MLflow's stores take for the value of a parameter, with room to spare."""

FLUSH_S = 2.0
MAX_WAITING = 500
"""Figures in one call; MLflow takes a thousand."""


class Tracker(Protocol):
    """Where the figures of a run go besides its folder."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run with its settings, or go on with it."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record figures of a step."""

    def artifact(self, path: Path) -> None:
        """Keep a file."""

    def flush(self) -> None:
        """Send what waits. The run stays open: another process goes on with it."""

    def end(self, *, ok: bool) -> None:
        """Close the run."""


class Silent:
    """Tracks nothing."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def artifact(self, path: Path) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def end(self, *, ok: bool) -> None:
        """Do nothing."""


class Guarded:
    """A tracker whose failures are warned of once, after which it is left out."""

    def __init__(self, make: Callable[[], Tracker], warn: Callable[[str], None]) -> None:
        """`make` imports the library and returns the tracker; it is called at the first use."""
        self._make = make
        self._warn = warn
        self._tracker: Tracker | None = None
        self._given_up = False

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run with its settings, or go on with it."""
        self._try(lambda tracker: tracker.start(name, params))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record figures of a step."""
        self._try(lambda tracker: tracker.metrics(step, values))

    def artifact(self, path: Path) -> None:
        """Keep a file, if it is there."""
        if path.exists():
            self._try(lambda tracker: tracker.artifact(path))

    def flush(self) -> None:
        """Send what waits."""
        self._try(lambda tracker: tracker.flush())

    def end(self, *, ok: bool) -> None:
        """Close the run."""
        self._try(lambda tracker: tracker.end(ok=ok))

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self._given_up:
            return
        try:
            self._tracker = self._tracker or self._make()
            act(self._tracker)
        except Exception as error:  # noqa: BLE001 - a library of many failures, none of which is the training's
            self._given_up = True
            self._warn(f"not tracked any more: {type(error).__name__}: {error}")


class Mlflow:
    """An MLflow run, by the client alone: nothing of the process is set."""

    def __init__(self, uri: str, artifacts: Path | None, kept: Path) -> None:
        """`artifacts` is where a local store keeps files; `kept` remembers the run's id for a resume."""
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("DO_NOT_TRACK", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - seconds, and optional

        self._client: Any = MlflowClient(tracking_uri=uri)
        self._artifacts = artifacts
        self._kept = kept
        self._run = ""
        self._waiting: list[Any] = []
        self._flushed = time.monotonic()

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run, or open the one that was begun before the job was stopped."""
        if self._kept.is_file():
            self._run = self._kept.read_text(encoding="utf-8").strip()
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(self._experiment(), run_name=name)
        self._run = str(made.info.run_id)
        for key, value in params.items():
            self._client.log_param(self._run, key, str(value)[:MAX_PARAM_CHARS])
        self._kept.write_text(self._run + "\n", encoding="utf-8")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record figures of a step, a few seconds' at a time: a transaction a step would slow training."""
        from mlflow.entities import Metric  # noqa: PLC0415

        moment = int(time.time() * 1000)
        self._waiting += [Metric(name, value, moment, step) for name, value in values.items()]
        if time.monotonic() - self._flushed > FLUSH_S or len(self._waiting) > MAX_WAITING:
            self.flush()

    def artifact(self, path: Path) -> None:
        """Keep a file, or a folder's files."""
        self.flush()
        keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        keep(self._run, str(path))

    def flush(self) -> None:
        """Send the figures that wait."""
        waiting, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        if waiting:
            self._client.log_batch(self._run, metrics=waiting)

    def end(self, *, ok: bool) -> None:
        """Close the run."""
        self.flush()
        self._client.set_terminated(self._run, "FINISHED" if ok else "FAILED")

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = None if self._artifacts is None else self._artifacts.as_uri()
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=place))


class Wandb:
    """A Weights & Biases run, by its public API; where it goes is set by its own environment variables."""

    def __init__(self, folder: Path) -> None:
        import wandb  # noqa: PLC0415 - optional

        self._wandb: Any = wandb
        self._folder = folder
        self._run: Any = None

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the one of that name."""
        self._run = self._wandb.init(
            project=EXPERIMENT, id=name, name=name, resume="allow", config=dict(params), dir=str(self._folder)
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record figures of a step."""
        self._run.log(dict(values), step=step)

    def artifact(self, path: Path) -> None:
        """Keep a file."""
        if path.is_file():
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def flush(self) -> None:
        """Do nothing: the library sends by itself, and the rest when the process ends."""

    def end(self, *, ok: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=0 if ok else 1)


def tracker_of(
    choice: str, *, uri: str | None, root: Path, run: Path, warn: Callable[[str], None]
) -> Tracker:
    """Return the tracker of a run in the folder `run` under `root`."""
    kept = run / "mlflow-run"
    if choice == "mlflow":
        if uri is not None:
            return Guarded(lambda: Mlflow(uri, None, kept), warn)
        local = f"sqlite:///{root.absolute() / 'mlflow.db'}"
        return Guarded(lambda: Mlflow(local, root.absolute() / "mlflow-artifacts", kept), warn)
    if choice == "wandb":
        return Guarded(lambda: Wandb(run), warn)
    return Silent()
