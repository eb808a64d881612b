"""What runs on a machine of a cluster: the stages that need a model, away from the run's folder.

It knows nothing of Ray. What it needs comes as values, and what it makes goes back as files' bytes.
"""

import contextlib
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.base import identify
from adapters.prepare_base import prepare
from training.environment import quieten
from training.job import EVALUATION, REFERENCE, TRAINED, Maker
from training.progress import Progress, Stage
from training.runs.folder import RunState
from training.runs.order import order_of
from training.runs.session import job_of
from training.runs.snapshot import snapshot_of

Files = dict[str, bytes]
Event = tuple[str, tuple[Any, ...]]
"""A method of `Recorder`, and its arguments."""


class Events:
    """A listener that keeps what it is told until somebody fetches it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def shown_on(self, stage: Stage) -> None:
        """Show nothing: the bar is on another machine."""

    def on_step(self, step: int, steps: int, loss: float | None) -> None:
        """Keep a step."""
        self._add("on_step", (step, steps, loss))

    def on_log(self, step: int, values: dict[str, float], tokens: int | None) -> None:
        """Keep the figures of a step."""
        self._add("on_log", (step, values, tokens))

    def on_validation(self, step: int, loss: float) -> None:
        """Keep a validation."""
        self._add("on_validation", (step, loss))

    def after(self, count: int) -> list[Event]:
        """Return what was told after the first `count` events."""
        with self._lock:
            return self._events[count:]

    def _add(self, name: str, arguments: tuple[Any, ...]) -> None:
        with self._lock:
            self._events.append((name, arguments))


class RemoteMaker:
    """Trains, judges and probes. `events` may be called while `make` works."""

    def __init__(self) -> None:
        self._events = Events()

    def events(self, count: int) -> list[Event]:
        """Return what happened after the first `count` events."""
        return self._events.after(count)

    def make(
        self,
        state: Mapping[str, Any],
        rows: str,
        folders: Mapping[str, Files],
        checkpoints: tuple[str, str] | None,
    ) -> Files:
        """Make the adapter of a run's state and rows; return the files for the run's folder.

        `folders` holds the predecessor and the parent, where there are any. `checkpoints` names the run's own
        folder for them with a token that lies there: where this machine sees the same, they are kept there,
        and a run whose machine died goes on; elsewhere it begins again.

        Raises:
            ValueError: the base model here is another one, or the rows can't be trained with.
            OSError: something can't be read or written here.
        """
        quieten()
        known = RunState(**state)
        order = order_of(known.order)
        progress = Progress()
        with tempfile.TemporaryDirectory(prefix="turnout-") as scratch:
            work = Path(scratch)
            placed = {name: _placed(work / name, files) for name, files in folders.items()}
            snapshot = snapshot_of(rows)
            job = job_of(known, order, snapshot.splits)
            job = replace(
                job,
                predecessor=placed.get("predecessor"),
                config=replace(job.config, parent=placed.get("parent")),
            )
            prepare(job.model, progress.step)
            here = identify(job.model, job.base.name)
            if here.digest != job.base.digest:
                raise ValueError(
                    f"the base model {job.model} on the cluster is {here.digest}, and here it is "
                    f"{job.base.digest}: make them the same"
                )
            maker = Maker(
                job,
                snapshot.splits,
                work,
                progress,
                checkpoints=_shared(checkpoints) or work / "checkpoints",
                listener=self._events,
            )
            maker.train()
            if not job.config.full:
                maker.judge()
                maker.probe()
            return collected(work)


def collected(work: Path) -> Files:
    """Return the files that the stages have left, by their place in the run's folder."""
    found = {f"adapter/{path.name}": path.read_bytes() for path in (work / "adapter").iterdir()}
    for name in (TRAINED, EVALUATION, REFERENCE):
        with contextlib.suppress(FileNotFoundError):
            found[name] = (work / name).read_bytes()
    return found


def files_of(folder: Path) -> Files:
    """Return the files of an adapter's folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _placed(folder: Path, files: Files) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _shared(checkpoints: tuple[str, str] | None) -> Path | None:
    """Return the run's own folder for checkpoints, if this machine sees it."""
    if checkpoints is None:
        return None
    folder, token = checkpoints
    try:
        seen = (Path(folder).parent / "token").read_text(encoding="utf-8")
    except OSError:
        return None
    return Path(folder) if seen == token else None
