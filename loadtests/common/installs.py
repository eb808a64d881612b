"""What a benchmark needs and a clone lacks: Debian packages, and peers in environments of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from loadtests.common.machine import ROOT

LOCKS = Path(__file__).resolve().parents[1] / "peers"
PLACE = ROOT / ".cache" / "peers"
INSTALL_S = 600.0
_STAMP = "installed.txt"


class NotToBeHad(Exception):
    """Something can't be installed here; the message says why."""


def debian(program: str, package: str) -> Path:
    """Return the path of a program, installed with apt-get when it is missing and this is root.

    Raises:
        NotToBeHad: it is missing and can't be installed.
    """
    found = _which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _run(["apt-get", "install", "-y", "--no-install-recommends", package], what=package)
        found = _which(program)
    if found is None:
        raise NotToBeHad(f"{program} is not installed; on Debian it comes with `apt-get install {package}`")
    return found


def peer(name: str) -> Path:
    """Return the `bin` folder of a peer's environment, made from its lock when it is missing or outdated.

    Raises:
        NotToBeHad: it can't be installed.
    """
    lock = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    place = PLACE / name
    stamp = place / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == lock:
        return place / "bin"
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(place)], what=name)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    _run([*pip, "--requirement", str(LOCKS / f"{name}.txt")], what=name)
    stamp.write_text(lock, encoding="utf-8")
    return place / "bin"


def _which(program: str) -> Path | None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    return Path(found) if found else None


def _run(command: list[str], *, what: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_S, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHad(f"{what} could not be installed: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "E:"))]
        raise NotToBeHad(f"{what} could not be installed: {lines[-1] if lines else done.stderr[-200:]}")
