"""Processes of a benchmark: started on a core, measured as a tree, and ended, whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from loadtests.common.machine import ROOT, pin

STOP_S = 15.0
_POLL_S = 0.05


class StartFailed(Exception):
    """A process did not come up; the message has the end of its log."""


class Process:
    """A process with its children. `log` holds what it printed."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.log = log
        self._popen = popen
        self._root = psutil.Process(popen.pid)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def cpu_s(self) -> float:
        """Return the CPU seconds that the living tree has used, user and system."""
        return sum(_cpu_s(process) for process in self._tree())

    def rss_mb(self) -> float:
        """Return the resident memory of the tree in megabytes (10^6 bytes)."""
        return sum(_rss(process) for process in self._tree()) / 1e6

    def tail(self, lines: int = 12) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; return the exit code.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        return self._popen.wait(timeout_s)

    def stop(self) -> None:
        """End the tree: asked first, made to after `STOP_S`."""
        tree = self._tree()
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@contextmanager
def started(
    command: Sequence[str],
    *,
    log: Path,
    core: int | None,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator[Process]:
    """Run a command on one core until the block ends; its output goes to `log`."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), **(environment or {})},
            cwd=folder,
            preexec_fn=lambda: pin(core),  # noqa: PLW1509 - no threads here; the core has to be set before exec
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def canned_engine(log: Path, *, core: int | None, gap_ms: float) -> Iterator[tuple[Process, str]]:
    """Run the canned engine; yield it with its address."""
    command = [sys.executable, "-m", "loadtests.common.canned", "--gap-ms", str(gap_ms)]
    with started(command, log=log, core=core) as process:

        def address() -> str | None:
            lines = log.read_text(encoding="utf-8").splitlines()
            return lines[0] if lines and lines[0].startswith("http://") else None

        wait_for(lambda: address() is not None, process, what="the canned engine", timeout_s=20)
        yield process, str(address())


def wait_for(holds: Callable[[], bool], process: Process, *, what: str, timeout_s: float) -> None:
    """Wait until something holds while a process runs.

    Raises:
        StartFailed: the process ended, or time is up.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        if not process.running:
            raise StartFailed(f"{what} ended at its start:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{what} was not ready after {timeout_s:g} s:\n{process.tail()}")
        time.sleep(_POLL_S)


def answers(url: str, *, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a chat request is answered with 200 now."""
    try:
        answer = httpx.post(url, content=body, headers=dict(headers), timeout=20, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def end_in_order() -> None:
    """Make SIGTERM end this program as Ctrl-C does, so that what it started is stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return the environment without Turnout's own settings and without proxies."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TURNOUT_") and not name.lower().endswith("_proxy")
    }
