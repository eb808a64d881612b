"""The processes of runs on this machine: started, seen, ended, also those that an earlier controller left.

Whether a step works is told by the lock of its folder alone, and what it did by its result's file. So it does
not matter who started it, or what became of that controller.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.controller.looping.commands import Programs
from gateway.controller.looping.folder import Folder, Holder
from gateway.controller.looping.launch import started_at
from gateway.loops.run import STEPS, Run
from gateway.loops.sight import Step
from gateway.store.run_files import remove_workbook

log = logging.getLogger(__name__)

GRACE_S = 15.0
_POLL_S = 0.05
_WRONG_USE = 2
"""The exit code of a step that would say the same again."""

_LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs have their folders, and how much of the disk must stay free, in bytes."""

    root: Path
    min_free_bytes: int = 1024**3
    host: str = socket.gethostname()


class Processes:
    """The steps of one controller's machine."""

    def __init__(self, place: Place, programs: Programs) -> None:
        self._place = place
        self._programs = programs
        self._children: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._asked: dict[tuple[str, int], float] = {}
        self._guard = threading.Lock()
        self._closed = False

    @property
    def host(self) -> str:
        """This machine's name."""
        return self._place.host

    def folder(self, run: Run) -> Folder:
        """Return a run's folder."""
        return Folder(self._place.root, run.id)

    def see(self, run: Run) -> Step:
        """Return how the process of the run's present state is doing.

        Raises:
            OSError: the folder can't be read.
        """
        folder = self.folder(run)
        self._reap(run.id)
        if not folder.there:
            return self._without_folder(run)
        if folder.busy:
            return Step("running")
        if run.state not in STEPS:
            return Step()
        holder = folder.holder
        if run.attempt == 0 or holder is None or holder.serial != run.starts:
            return self._early_end(run, folder) or self._ready(run, folder)
        return self._ended(run, folder)

    def start(
        self, run: Run, *, not_after: float, best: str | None, begun: Callable[[], Run | None]
    ) -> Run | None:
        """Start the present step, unless somebody works in the folder already; return the run as it is then.

        `begun` writes down that it starts, which is the last thing before it does; None from it, or an error,
        and nothing starts. `not_after`: on the monotonic clock, when the right to start anything is over.

        Raises:
            OSError: the folder can't be written, or the process not made.
        """
        folder, step = self.folder(run), STEPS[run.state]
        with self._guard:
            if self._closed:
                return None
            folder.make()
            folder.write("policy.json", run.policy.model_dump(mode="json"))
            folder.write("run.json", _about(run))
            with folder.locked() as descriptor:
                if descriptor is None:
                    return None
                self._sweep(folder)
                known = begun()
                if known is None:
                    return None
                # Not before: a controller that was frozen would take away what its successor's step has made.
                folder.clear(step)
                command = self._programs.command(run, folder.path, best=best)
                arguments = [str(known.starts), str(not_after), *command]
                self._let_go(run.id)
                child = self._launched(folder, step, descriptor, arguments)
                self._children[run.id] = (known.starts, child)
                return known

    def end(self, run: Run) -> None:
        """Ask the step to end, and have it ended when it does not."""
        folder = self.folder(run)
        holder = folder.holder
        if holder is None or not folder.busy:
            return
        key = (run.id, holder.serial)
        first = self._asked.setdefault(key, time.monotonic())
        late = time.monotonic() - first > GRACE_S
        _signal(holder, signal.SIGKILL if late else signal.SIGTERM)

    def forget(self, run: Run) -> None:
        """Forget a run that has ended, and end and remove what its processes may have left."""
        self._reap(run.id)
        self._sweep(self.folder(run))
        self._let_go(run.id)
        self._asked = {key: at for key, at in self._asked.items() if key[0] != run.id}
        try:
            remove_workbook(self.folder(run).path)  # one that was given up while it curated has left it
        except OSError as error:
            log.warning("the texts that %s read for its rows can't be removed: %s", run.id, error)

    def close(self, *, patience_s: float = GRACE_S) -> None:
        """End the steps that this process started, so that they can begin again with the next controller."""
        with self._guard:
            self._closed = True
            running = {run: child for run, (_, child) in self._children.items() if child.poll() is None}
            for run in running:
                folder = Folder(self._place.root, run)
                holder = folder.holder
                if holder is not None and folder.busy:
                    folder.mark_stopped(holder.serial)
                    _signal(holder, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        for run, child in running.items():
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            if child.poll() is None:
                holder = Folder(self._place.root, run).holder
                if holder is not None:
                    _signal(holder, signal.SIGKILL)
                child.kill()
                child.wait()

    @staticmethod
    def _sweep(folder: Folder) -> None:
        """End what the last process has left running when it went: a group outlives its leader."""
        holder = folder.holder
        if holder is not None and started_at(holder.pid) != holder.started:
            _signal(holder, signal.SIGKILL)

    def _launched(
        self, folder: Folder, step: str, descriptor: int, arguments: list[str]
    ) -> "subprocess.Popen[bytes]":
        with folder.log(step).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCH), str(descriptor), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._programs.told(os.environ),
                start_new_session=True,
                pass_fds=(descriptor,),
                cwd=folder.path,
            )

    def _without_folder(self, run: Run) -> Step:
        if run.host not in (None, self.host):
            return Step("elsewhere", reason=f"its folder is on {run.host}, and the controller on {self.host}")
        if run.state in ("training", "gating"):
            return Step("refused", reason="its folder is gone")
        return self._ready(run, self.folder(run))

    def _ready(self, run: Run, folder: Folder) -> Step:
        """Return whether the step can be started."""
        if run.state not in STEPS:
            return Step()
        missing = self._programs.missing(run)
        if missing is not None:
            return Step("refused", reason=missing)
        above = next(path for path in (folder.path, *folder.path.parents) if path.is_dir())
        free = shutil.disk_usage(above).free
        if free < self._place.min_free_bytes:
            need = self._place.min_free_bytes / 2**30
            return Step(
                "blocked",
                reason=f"{free / 2**30:.1f} GiB of the disk are free, and {run.state} begins with {need:.1f}",
            )
        return Step()

    def _early_end(self, run: Run, folder: Folder) -> Step | None:
        """Return the end of a start that this process has seen, before it got as far as to say who it is."""
        if run.attempt == 0 or not self._exit_code(run):
            return None
        return self._died(run, folder)

    def _ended(self, run: Run, folder: Folder) -> Step:
        step = STEPS[run.state]
        try:
            result = folder.result(step)
        except ValueError as error:
            return Step("died", reason=f"its result can't be read: {error}")
        if result is not None:
            return Step("done", result=result)
        if folder.stopped == run.starts:
            return self._ready(run, folder)
        return self._died(run, folder)

    def _died(self, run: Run, folder: Folder) -> Step:
        code = self._exit_code(run)
        said = folder.last_line(STEPS[run.state])
        how = "it ended" if code is None else _by_signal(-code) if code < 0 else f"exit code {code}"
        reason = f"{how}: {said}" if said else f"{how} without a result"
        return Step("died", reason=reason, again=code != _WRONG_USE)

    def _exit_code(self, run: Run) -> int | None:
        """Return the exit code of the run's last start, if this process made it and it has ended."""
        serial, child = self._children.get(run.id, (0, None))
        return None if child is None or serial != run.starts else child.poll()

    def _reap(self, run: str) -> None:
        _, child = self._children.get(run, (0, None))
        if child is not None:
            child.poll()
        self._leaving = [child for child in self._leaving if child.poll() is None]

    def _let_go(self, run: str) -> None:
        """Keep a child only until it is reaped: its lock may be free a moment before it is gone."""
        _, child = self._children.pop(run, (0, None))
        if child is not None:
            self._leaving.append(child)


def _by_signal(number: int) -> str:
    killed = " (by the kernel when memory runs out)" if number == signal.SIGKILL else ""
    return f"signal {number}{killed}"


def _about(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "route": run.route,
        "trigger": run.trigger,
        "cause": run.cause,
        "drift_id": run.drift_id,
        "champion": run.champion,
        "candidate": run.candidate,
        "created_at": run.created_at,
        "results": dict(run.results),
    }


def _signal(holder: Holder, signum: signal.Signals) -> None:
    """Send a signal to a step's whole group, unless its number belongs to another process by now."""
    now = started_at(holder.pid)
    if now is not None and now != holder.started:
        log.warning("process %d is another one by now; the step's own is gone", holder.pid)
        return
    try:
        os.killpg(holder.pid, signum)
    except (ProcessLookupError, PermissionError):
        return
