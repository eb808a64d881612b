"""The machine under the benchmarks: what it is, how busy it is, and which core a process may use."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


def cores() -> tuple[int | None, int | None]:
    """Return the core for load and engine and the system's own; None with fewer than two."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Keep this process on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def describe() -> dict[str, Any]:
    """Return what a reader needs to place the figures; nothing that names this very machine."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def commit() -> str:
    """Return the commit of the tree, with `-dirty` when files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain") else head
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def busy_share(interval_s: float = 1.0) -> float:
    """Return the share of all cores (0 to 1) that was used during an interval."""
    return float(psutil.cpu_percent(interval=interval_s)) / 100


def peak_mb() -> float:
    """Return this program's largest size: `ru_maxrss` would begin with that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class CoreWatch:
    """How much of one core was used since it was made, by everybody."""

    def __init__(self, core: int | None) -> None:
        self._core = core
        self._busy_s = self._read()

    def busy_s(self) -> float:
        """Return the seconds of the core that went into work, stolen ones included."""
        return self._read() - self._busy_s

    def _read(self) -> float:
        if self._core is None:
            return 0.0
        times = psutil.cpu_times(percpu=True)[self._core]
        return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
