"""Runs the drift monitor beside the effective controller, and starts it again when it ends."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0
GOOD_RUN_S = 600.0
STOP_S = 10.0
_TIED = Path(__file__).with_name("tied.py")


@dataclass(frozen=True, slots=True)
class Watch:
    """The monitor's command, what it is told in its environment, and where it prints.

    `needs` are the libraries without which it is not started.
    """

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()


class Watcher:
    """The monitor's process. It is started from the main thread alone, with whose end it ends."""

    def __init__(self, watch: Watch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._due = 0.0
        self._pause_s = FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Have it run: start it when it does not, after a pause that grows when it ends early."""
        now = self._clock()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._ended(code, now)
        if now < self._due:
            return
        missing = [name for name in self._watch.needs if importlib.util.find_spec(name) is None]
        if missing:
            self._later(now, f"{', '.join(missing)} is not installed: pip install 'turnout[monitoring]'")
            return
        try:
            self._process = self._launched()
        except OSError as error:
            self._later(now, str(error))
            return
        self._began = now
        log.info("the drift monitor is started (log: %s)", self._watch.log)

    def stop(self) -> None:
        """End it and wait until it has ended."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _launched(self) -> "subprocess.Popen[bytes]":
        self._watch.log.parent.mkdir(parents=True, exist_ok=True)
        with self._watch.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(_TIED), str(os.getpid()), *self._watch.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._watch.environment},
                start_new_session=True,
            )

    def _ended(self, code: int, now: float) -> None:
        self._process = None
        if now - self._began >= GOOD_RUN_S:
            self._pause_s = FIRST_PAUSE_S
        self._later(now, f"it ended with code {code}; see {self._watch.log}")

    def _later(self, now: float, why: str) -> None:
        log.warning("the drift monitor does not run: %s; the next try is in %.0f s", why, self._pause_s)
        self._due = now + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
