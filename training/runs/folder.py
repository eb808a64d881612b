"""The folder of one run: what it is doing, what it has finished, and who works on it.

    RUN/run.json        state, order, settings, data; replaced whole, by one rename
    RUN/metrics.jsonl   a line for each logged step and each validation
    RUN/loss.png        the same as a picture
    RUN/rows.jsonl      the rows by split, until the run is finished
    RUN/checkpoints/    what training goes on from, until it is finished
    RUN/adapter/        the adapter; there whole or not at all
    RUN/evaluation.json, RUN/reference.json   what is known of it, each when its stage is done

A stage is done when its file is there, so a run that was killed goes on with the first stage that is not.
Whoever works on a run holds the lock on `RUN/.lock`, which dies with its process: a run whose state says that
it is under way, and whose lock is free, was killed.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, get_args

from adapters.base import cache_dir

State = Literal["preparing", "training", "evaluating", "publishing", "finished", "failed", "killed"]
STATES: tuple[State, ...] = get_args(State)
UNDER_WAY = frozenset({"preparing", "training", "evaluating", "publishing"})
FORMAT = 1


class RunBusy(OSError):
    """Another process works on the run."""


class NoSuchRun(ValueError):
    """There is no run of that name, or what is there can't be read."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What `run.json` says. Times are seconds since the epoch; documents are JSON values."""

    id: str
    name: str
    state: State = "preparing"
    pid: int = 0
    host: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    command: str = ""
    order: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    steps: int | None = None
    training_s: float | None = None
    tokens_per_s: float | None = None
    version: str | None = None
    error: str | None = None


def silent_end(state: RunState) -> str:
    """Return how a run that nobody works on can have ended, when all it says is that it is under way."""
    if state.state not in UNDER_WAY:
        return ""
    return (
        f"without a word while {state.state}: kill -9, a machine that stopped, or Linux for want of "
        "memory (dmesg says so; --accumulation 2 or --gradient-checkpointing on take less)"
    )


def runs_dir(given: Path | None) -> Path:
    """Return where runs have their folders."""
    return given.absolute() if given else cache_dir() / "runs"


class Run:
    """One run's folder. Made by `create` or `take` it is locked; made directly it is for reading."""

    def __init__(self, path: Path, lock: IO[bytes] | None = None) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, root: Path, name: str, *, now: float | None = None) -> "Run":
        """Make the folder of a new run, named after the adapter and the time, and lock it.

        Raises:
            OSError: it can't be made.
        """
        root.mkdir(parents=True, exist_ok=True)
        moment = time.time() if now is None else now
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(moment))}"
        for number in range(1, 1000):
            path = root / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            run = cls(path, _locked(path))
            run._write(_stamped(RunState(id=path.name, name=name, created_at=round(moment, 3))))
            return run
        raise FileExistsError(errno.EEXIST, "too many runs began within a second", str(root / stem))

    @classmethod
    def take(cls, path: Path) -> "Run":
        """Lock a run that is there, to go on with it.

        Raises:
            NoSuchRun: there is none.
            RunBusy: another process works on it.
        """
        Run(path).read()
        return cls(path, _locked(path))

    @property
    def adapter(self) -> Path:
        """Where the adapter appears when it is trained."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Where training leaves what it goes on from."""
        return self.path / "checkpoints"

    @property
    def rows(self) -> Path:
        """Where the rows lie until the run is finished."""
        return self.path / "rows.jsonl"

    @property
    def metrics(self) -> Path:
        """Where each logged step has its line."""
        return self.path / "metrics.jsonl"

    @property
    def plot(self) -> Path:
        """The picture of the losses."""
        return self.path / "loss.png"

    def read(self) -> RunState:
        """Return what `run.json` says.

        Raises:
            NoSuchRun: it is missing, or of another format.
        """
        path = self.path / "run.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoSuchRun(f"{self.path} is no run's folder: it has no run.json") from error
        except ValueError as error:
            raise NoSuchRun(f"{path} can't be read: {error}") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise NoSuchRun(f"{path} was written by another release of Turnout")
        try:
            return RunState(**document)
        except TypeError as error:
            raise NoSuchRun(f"{path} was written by another release of Turnout: {error}") from error

    def update(self, **changes: Any) -> RunState:
        """Change what `run.json` says, in one step, and return it."""
        state = _stamped(replace(self.read(), **changes))
        self._write(state)
        return state

    def observed(self) -> RunState:
        """Return the state with the truth about runs whose process is gone."""
        state = self.read()
        if state.state in UNDER_WAY and not self.busy():
            return replace(state, state="killed")
        return state

    def busy(self) -> bool:
        """Whether a process works on it."""
        if self._lock is not None:
            return True
        try:
            with (self.path / ".lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def lock_descriptor(self) -> int:
        """Return the lock's file descriptor, for a child that must keep it when this process dies."""
        if self._lock is None:
            raise ValueError(f"{self.path} is not locked by this process")
        return self._lock.fileno()

    def write(self, name: str, text: str) -> None:
        """Write a file of the run in one step: it is there whole, or as it was."""
        replace_file(self.path / name, text)

    def text(self, name: str) -> str | None:
        """Return what a file of the run holds, or None where there is none."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def append_metrics(self, point: Mapping[str, Any]) -> None:
        """Add a line to the metrics. It is not synced: what a crash of the machine loses is trained again."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")

    def points(self) -> list[dict[str, Any]]:
        """Return the metrics, the latest of each step, in the order of steps.

        A run that was resumed repeats the steps since its checkpoint; a line that was cut by a crash is
        left out.
        """
        found: dict[tuple[int, bool], dict[str, Any]] = {}
        for line in (self.text("metrics.jsonl") or "").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                point = json.loads(line)
                found[(int(point["step"]), "validation_loss" in point)] = point
        return [found[key] for key in sorted(found)]

    def tidy(self) -> None:
        """Remove what only an unfinished run needs: the rows and the checkpoints."""
        self.rows.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for left in self.path.glob(".tmp-*"):
            shutil.rmtree(left, ignore_errors=True)

    def remove(self) -> None:
        """Remove the whole folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self, state: RunState) -> None:
        self.write("run.json", json.dumps({"format": FORMAT, **asdict(state)}, indent=1) + "\n")


def find_run(given: Path, root: Path) -> Path:
    """Return the folder of a run that is named by its folder or by its id.

    Raises:
        NoSuchRun: there is none.
    """
    for path in (given, root / given):
        if (path / "run.json").is_file():
            return path.absolute()
    raise NoSuchRun(f"there is no run {given}, nor {root / given}; `turnout runs list` shows those there are")


def all_runs(root: Path) -> list[Run]:
    """Return the runs under a folder, the newest first."""
    found = [Run(path.parent) for path in root.glob("*/run.json")]
    return sorted(found, key=lambda run: (_created(run), run.path.name), reverse=True)


def replace_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file whole, by one rename; readable by its owner alone unless `mode` says otherwise."""
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `folder` when the block ends well."""
    scratch = folder.with_name(f".tmp-{uuid.uuid4().hex}")
    scratch.mkdir(parents=True)
    try:
        yield scratch
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _locked(path: Path) -> IO[bytes]:
    file = (path / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunBusy(
            errno.EBUSY, "another process works on this run; wait for it, or end it first", str(path)
        ) from error
    return file


def _stamped(state: RunState) -> RunState:
    return replace(state, pid=os.getpid(), host=socket.gethostname(), updated_at=round(time.time(), 3))


def _created(run: Run) -> float:
    try:
        return run.read().created_at
    except NoSuchRun:
        return 0.0
