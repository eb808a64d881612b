"""One supervised child: a process group of its own, a log file, an end that leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_MINDER = Path(__file__).with_name("minder.py")
_POLL_S = 0.02


class Backoff:
    """How long to wait before a start after failures: doubling, and from the beginning after a good run."""

    def __init__(self, *, first_s: float = 1.0, most_s: float = 60.0, good_run_s: float = 60.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._good_run_s = good_run_s
        self._next_s = first_s

    def after_run_of(self, seconds: float) -> float:
        """Return the seconds to wait after a run that lasted `seconds`."""
        if seconds >= self._good_run_s:
            self._next_s = self._first_s
        wait_s = self._next_s
        self._next_s = min(self._next_s * 2, self._most_s)
        return wait_s


class Child:
    """A command that is started, watched, stopped and started again.

    It runs behind a minder (see `minder`), so that it ends when this process does. Its output goes to
    `log` (appended), or to this process's own when there is none. `pass_fds` stay open in it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str | None],
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
        grace_s: float = 15.0,
    ) -> None:
        self.name = name
        self.log = log
        self.grace_s = grace_s
        self.starts = 0
        self.started_at = 0.0
        self._command = tuple(command)
        self._environment = dict(environment)
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended. An end is noticed here, and its group swept."""
        if self._process is None:
            return False
        # WNOWAIT leaves the zombie, and with it the group's number, until the group has been swept.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return True
        self._reap()
        return False

    @property
    def exit_code(self) -> int | None:
        """The code of the last end, 128 + N for signal N; None before the first end."""
        return self._code

    @property
    def pid(self) -> int | None:
        """The number of the process group while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the command.

        Raises:
            OSError: the log can't be written or the process not made.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        environment = {**os.environ, **self._environment}
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_MINDER), str(self.grace_s)),
                    ",".join(str(fd) for fd in self._pass_fds),
                    *self._command,
                ],
                env={name: value for name, value in environment.items() if value is not None},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self._pass_fds,
            )
        self.starts += 1
        self.started_at = time.monotonic()

    def ask_to_stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal that asks for an orderly end; nothing happens when it does not run."""
        self.send(signum)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal, which the minder passes on: SIGTERM, SIGINT or SIGHUP."""
        if self.running and self._process is not None:
            self._process.send_signal(signum)

    def kill(self) -> None:
        """End it and everything it started, now."""
        if self.running and self._process is not None:
            self._reap()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False when it runs on after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _reap(self) -> None:
        if self._process is None:
            return
        self._sweep()
        code = self._process.wait()
        self._code = code if code >= 0 else 128 - code
        if self._process.stdin:
            self._process.stdin.close()
        self._process = None

    def _sweep(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def tail(log: Path, lines: int = 20, *, most_bytes: int = 64 * 1024) -> list[str]:
    """Return the last lines of a log; nothing when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
