"""What this machine's CPU and memory are good for, for training and for the engine's plugin."""

import platform
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def multiplies_bfloat16() -> bool:
    """Whether this CPU's products in bfloat16 are about as fast as in float32, or faster.

    Without AVX-512 an x86 has no path for them in torch 2.13: on two cores of an AMD EPYC (Zen 3) 2 to 16
    GFLOP/s against 127 to 136 in float32 (bench-steps). Other CPUs were not measured: they are believed.
    """
    if platform.machine() not in {"x86_64", "AMD64"}:
        return True
    return str(torch.backends.cpu.get_cpu_capability()) not in {"DEFAULT", "AVX2"}


def free_memory(folder: Path = CGROUP) -> int:
    """Return the bytes that a process may still take: of the machine, or of its container."""
    available = int(psutil.virtual_memory().available)
    left = left_in_container(folder)
    return available if left is None else min(available, left)


def all_memory(folder: Path = CGROUP) -> int:
    """Return the bytes of this machine's memory, or of its container's."""
    total, limit = int(psutil.virtual_memory().total), _bytes(folder / "memory.max")
    return total if limit is None else min(total, limit)


def left_in_container(folder: Path) -> int | None:
    """Return the bytes that a container's limit leaves (cgroup 2), or None where there is no limit.

    Files that were read and are not in use count in `memory.current` and give way when memory is asked for:
    they are free, as in the kubelet's working set. A model's files would else look like half of its memory.
    """
    limit, used = _bytes(folder / "memory.max"), _bytes(folder / "memory.current")
    return None if limit is None or used is None else max(0, min(limit, limit - used + _unused_files(folder)))


def _unused_files(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _bytes(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return None if text == "max" else int(text)
