"""Runs one command and outlives it by nothing: `python -I -S minder.py GRACE_S KEEP_FDS COMMAND…`.

The supervisor starts every child behind a minder, in a session of its own, with a pipe as standard input
that only the supervisor holds open. When the supervisor goes, however it goes (also by `kill -9`), the
pipe ends: the minder asks the command to stop, gives it GRACE_S seconds, and kills the whole group. The
command in turn is killed by the kernel when the minder goes (Linux).

Only the standard library, and no site-packages: it starts in milliseconds and holds some ten megabytes.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the command until it ends or its supervisor is gone; return its exit code, 128 + N for signal N."""
    grace_s, kept, command = float(arguments[0]), arguments[1], arguments[2:]
    fds = [int(fd) for fd in kept.split(",") if fd]
    asked, wakes = os.pipe()
    os.set_blocking(asked, False)
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, _noop)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has one thread
    )
    for fd in fds:  # a listening socket must close when the command closes it
        os.close(fd)
    return _mind(child, asked, grace_s)


def _mind(child: subprocess.Popen[bytes], asked: int, grace_s: float) -> int:
    supervisor, deadline = 0, None
    while child.poll() is None:
        watched = [asked] if deadline is not None else [asked, supervisor]
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        if asked in ready:
            for signum in os.read(asked, 64):
                if signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    child.send_signal(signum)
        if supervisor in ready and not os.read(supervisor, 64):
            child.terminate()
            deadline = time.monotonic() + grace_s
        if deadline is not None and time.monotonic() >= deadline:
            break
    if deadline is not None:
        os.killpg(0, signal.SIGKILL)  # nobody is left to sweep the group; this process is part of it
    code = child.returncode or 0
    return code if code >= 0 else 128 - code


def _die_with_parent() -> Callable[[], None]:
    """Return what makes the kernel kill the command when this process goes, where there is such a call.

    Until the command says otherwise it ignores SIGHUP, which would end it while it starts.
    """
    linux = sys.platform.startswith("linux")
    prctl, minder = ctypes.CDLL(None).prctl if linux else None, os.getpid()

    def set_signal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if prctl is None:
            return
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != minder:  # it went between fork and prctl
            os._exit(1)

    return set_signal


def _noop(_signum: int, _frame: object) -> None:
    """Let the signal wake `select` and do nothing else."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
