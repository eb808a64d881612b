"""Make .venv and install everything that Turnout needs here. A second run finds it done and returns at once.

    python3 scripts/setup.py [--only gateway] [--dev]

Only the standard library, so that the system's own Python can run it. What is installed is a list of
exact versions (requirements/), without resolving anything. pip's output goes to .cache/setup.log.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "turnout-setup.json"
LOG = ROOT / ".cache" / "setup.log"
OLDEST = (3, 11)
CANDIDATES = ("python3.13", "python3.12", "python3.11")
NEEDED_GB = {"gateway": 1, "dev": 1, "cpu": 8, "cuda": 20}
# Linked against CUDA; beside a CPU build of torch they break `import transformers`.
CUDA_LINKED = ("torchaudio", "torchcodec", "torchvision")
# For tests only; out of Debian's packages, unpacked into .venv and not installed.
PROMETHEUS = ("prometheus", "promtool")
POSTGRESQL = VENV / "postgresql"
FETCH_S = 120
IMPORTS = {
    "gateway": "fastapi, uvicorn, sqlalchemy, uvloop, httptools",
    "dev": "fastapi, uvicorn, sqlalchemy, pytest",
    "cpu": "torch, transformers, peft, trl, bitsandbytes, evidently, vllm",
    "cuda": "torch, transformers, peft, trl, bitsandbytes, evidently, vllm",
}
TORCH_ADVICE = """\
pip found no CPU build of PyTorch. It lies on an index of its own:
  1. open pytorch.org → Get Started → Stable, Linux, Pip, Python, CPU; the command shown there ends with
     the address of that index (after --index-url);
  2. export PIP_EXTRA_INDEX_URL=<that address>   (or put it into pip.conf as extra-index-url);
  3. run the same command again: what was downloaded is kept."""
VENV_ADVICE = """\
This Python can't make virtual environments. On Debian and Ubuntu:
  sudo apt install python3-venv
then run the same command again."""


class Failed(Exception):
    """A step failed; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left to do; return 0 when everything is there."""
    _use_a_fitting_python()
    parser = argparse.ArgumentParser(description="Make .venv and install what Turnout needs here.")
    parser.add_argument("--only", choices=["gateway"], help="no engine, no training: the gateway alone")
    parser.add_argument("--dev", action="store_true", help="with --only gateway: the developer's tools too")
    options = parser.parse_args(arguments)
    try:
        lock = ("dev" if options.dev else "gateway") if options.only else device()
        if not finished(lock):
            with _one_at_a_time():
                if not finished(lock):
                    install(lock)
    except Failed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def device() -> str:
    """Return `cuda` or `cpu`: the environment's or the file's `engine.device`, else what this machine has."""
    import tomllib  # noqa: PLC0415 - an older Python must get as far as the message about its age

    wanted = os.environ.get("TURNOUT_ENGINE__DEVICE")
    settings = ROOT / "turnout.toml"
    if wanted is None and settings.is_file():
        try:
            wanted = tomllib.loads(settings.read_text(encoding="utf-8")).get("engine", {}).get("device")
        except tomllib.TOMLDecodeError as error:
            raise Failed(f"{settings} is not valid TOML: {error}") from error
    if wanted in ("cpu", "cuda"):
        return wanted
    if wanted not in (None, "auto"):
        raise Failed(f"engine.device is {wanted!r}; it must be auto, cpu or cuda")
    return "cuda" if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") else "cpu"


def finished(lock: str) -> bool:
    """Whether the last run installed exactly what `lock` and pyproject.toml say now."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(stamp == _stamp(lock) and PYTHON.exists() and not (lock == "cpu" and broken()))


def broken() -> list[str]:
    """Return the installed packages that would break `import transformers` beside a CPU build of torch."""
    found = {}
    for folder in VENV.glob("lib/python*/site-packages/torch*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        found[name] = version
    if "+cpu" not in found.get("torch", ""):
        return []
    return [name for name in CUDA_LINKED if name in found and "+cpu" not in found[name]]


def install(lock: str) -> None:
    """Make the environment and install the lock and the project.

    Raises:
        Failed: a step failed.
    """
    print(f"Setting up Turnout in .venv ({lock})", flush=True)
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    _check_space(lock)
    _make_venv()
    requirements = ROOT / "requirements" / f"{lock}.txt"
    pins = [
        line for line in requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    torch = [pin for pin in pins if re.match(r"torch={2,3}", pin)]
    if torch:  # first and alone: the one package that may need an index of its own
        _pip(f"installing {torch[0]}", "install", "--no-deps", *torch, advice=TORCH_ADVICE)
    _pip(f"installing {len(pins)} packages", "install", "--no-deps", "-r", str(requirements))
    if left := broken():
        _pip(f"removing {', '.join(left)} (linked against CUDA)", "uninstall", "--yes", *left)
    _pip("installing Turnout itself", "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    _run(
        "checking that it imports",
        [str(PYTHON), "-c", f"import {IMPORTS[lock]}"],
        advice=f"The packages are installed but do not import. Remove {VENV} and run it again.",
    )
    if lock != "gateway":
        _fetch_programs()
    STAMP.write_text(json.dumps(_stamp(lock)), encoding="utf-8")


def _fetch_programs() -> None:
    """Put what only tests need beside the environment's programs, unless the machine has it.

    Taken out of Debian's packages: nothing is installed, no service is started, and root is needed only where
    apt's lists are empty. Without them everything works but tests, which say so.
    """
    if not all(shutil.which(name) or (VENV / "bin" / name).exists() for name in PROMETHEUS):
        _fetch("prometheus and promtool", ("prometheus",), _keep_prometheus, "the Prometheus rules are")
    here = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *POSTGRESQL.glob("usr/lib/postgresql/*/bin")]
    if not here and not shutil.which("postgres"):
        _fetch(
            "PostgreSQL", ("postgresql-[0-9]*", "postgresql-client-[0-9]*"), _keep_postgresql, "PostgreSQL is"
        )


def _fetch(what: str, packages: Sequence[str], keep: Callable[[Path], None], left_out: str) -> None:
    """Download packages, unpack them, and keep what is wanted of them; or say what is not tested."""
    why = "there is no apt-get and no dpkg-deb here"
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                _unpack(what, packages, Path(scratch))
                keep(Path(scratch))
        except (Failed, OSError):
            why = f"apt-get could not fetch it, see {LOG}"
        else:
            return
    print(f"  - without {what} ({why}): {left_out} not tested")


def _unpack(what: str, packages: Sequence[str], scratch: Path) -> None:
    # The newest of the packages that a pattern names; bounded, for a mirror that does not answer.
    names = " ".join(
        f"$(apt-cache pkgnames {shlex.quote(package.split('[')[0])} | "
        f"grep -Ex {shlex.quote(package.replace('*', '+'))} | sort -V | tail -n 1)"
        for package in packages
    )
    bounded = f"timeout {FETCH_S} apt-get -qq -o Acquire::Retries=1"
    download = f"cd {shlex.quote(str(scratch))} && {bounded} download {names} && ls ./*.deb >&2"
    if os.geteuid() == 0:
        download = f"{download} || {{ {bounded} update && {download}; }}"
    place = shlex.quote(str(scratch))
    unpack = f'for package in {place}/*.deb; do dpkg-deb --extract "$package" {place} || exit 1; done'
    _run(f"fetching {what}, for tests", ["/bin/sh", "-c", f"({download}) && {unpack}"], advice="")


def _keep_prometheus(scratch: Path) -> None:
    for name in PROMETHEUS:
        shutil.copy2(scratch / "usr" / "bin" / name, VENV / "bin" / name)


def _keep_postgresql(scratch: Path) -> None:
    """Keep the tree as it is: the server finds its other files by where it lies itself."""
    shutil.rmtree(POSTGRESQL, ignore_errors=True)
    for part in ("usr/lib/postgresql", "usr/share/postgresql"):
        shutil.copytree(scratch / part, POSTGRESQL / part, symlinks=True)


def _stamp(lock: str) -> dict[str, str]:
    parts = [ROOT / "requirements" / f"{lock}.txt", ROOT / "pyproject.toml"]
    whole = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    # The scripts in a virtual environment name its place, so a copied one is not finished.
    return {"lock": lock, "sha256": whole, "place": str(VENV)}


def _use_a_fitting_python() -> None:
    if sys.version_info >= OLDEST:
        return
    for name in CANDIDATES:
        found = shutil.which(name)
        if (
            found
            and subprocess.run([found, "-c", "import venv"], check=False, capture_output=True).returncode == 0
        ):
            os.execv(found, [found, *sys.argv])  # noqa: S606 - the same script under a newer Python
    _stop(
        f"Turnout needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}.\n"
        "Install a newer one (on Debian 12 or Ubuntu 24.04: sudo apt install python3 python3-venv)."
    )


def _stop(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)


class _one_at_a_time:  # noqa: N801 - reads as what it does in `with`
    """Two set-ups at once would write into one environment: the second waits."""

    def __enter__(self) -> None:
        (ROOT / ".cache").mkdir(exist_ok=True)
        self._file = (ROOT / ".cache" / "setup.lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up is running; waiting for it …", flush=True)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _check_space(lock: str) -> None:
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if not STAMP.exists() and free_gb < NEEDED_GB[lock]:
        raise Failed(
            f"{free_gb:.1f} GB are free under {ROOT}, and the installation needs about {NEEDED_GB[lock]} GB."
        )


def _make_venv() -> None:
    # One that was finished stays when the system's Python moves on; an unfinished one was perhaps made with
    # the wrong Python.
    if PYTHON.exists() and _same_place() and (STAMP.exists() or _same_python()):
        return
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian ships venv without it
        import venv  # noqa: F401, PLC0415
    except ImportError:
        raise Failed(VENV_ADVICE) from None
    clear = ["--clear"] if (VENV / "pyvenv.cfg").exists() else []
    _run(
        f"making the virtual environment (Python {sys.version.split()[0]})",
        [sys.executable, "-m", "venv", *clear, str(VENV)],
        advice=VENV_ADVICE,
    )


def _same_place() -> bool:
    """Whether the environment was made where it lies now: its scripts name their own place."""
    script = VENV / "bin" / "pip"
    return (
        script.is_file() and str(VENV) in script.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    )


def _same_python() -> bool:
    """Whether the environment has the minor version of the Python that runs this."""
    try:
        made_with = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    return (
        re.search(r"^version\s*=\s*{}\.{}\b".format(*sys.version_info[:2]), made_with, re.MULTILINE)
        is not None
    )


def _pip(what: str, *arguments: str, advice: str = "") -> None:
    _run(what, [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments], advice=advice)


def _run(what: str, command: list[str], *, advice: str) -> None:
    """Run one step, its output into the log, with the elapsed time on screen.

    Raises:
        Failed: it ended with another code than 0.
    """
    tail: deque[str] = deque(maxlen=15)
    with LOG.open("a", encoding="utf-8") as log, _Progress(what) as progress:
        log.write(f"$ {' '.join(command)}\n")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
        ) as child:
            for line in child.stdout or ():
                log.write(line)
                tail.append(line.rstrip())
                progress.note(line)
        progress.ok = child.returncode == 0
    if child.returncode:
        told = advice if advice is not TORCH_ADVICE or any("torch" in line for line in tail) else ""
        raise Failed(
            "\n".join([*tail, "", told or f"The whole output is in {LOG}; mend it and run it again."])
        )


class _Progress:
    """A line for one step: on a terminal it counts the seconds, elsewhere it is repeated now and then."""

    EVERY_S = 20.0

    def __init__(self, what: str) -> None:
        self.ok = False
        self._what = what
        self._detail = ""
        self._began = time.monotonic()
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> _Progress:  # noqa: PYI034 - typing.Self is newer than the oldest Python that reads this
        if not sys.stdout.isatty():
            print(f"  … {self._what}", flush=True)
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._ticker.join()
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}  {'✓' if self.ok else '✗'} {self._what} ({self._elapsed()})", flush=True)

    def note(self, line: str) -> None:
        """Take the name of the package that pip is at from a line of its output."""
        if match := re.match(r"(Collecting|Installing collected|Building|Obtaining)\s*(\S*)", line):
            self._detail = match[2] if match[1] == "Collecting" else match[1].split()[0].lower()

    def _tick(self) -> None:
        terminal = sys.stdout.isatty()
        while not self._done.wait(1.0 if terminal else self.EVERY_S):
            text = f"  … {self._what} ({self._elapsed()}{', ' + self._detail if self._detail else ''})"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}" if terminal else text, end="" if terminal else "\n", flush=True)

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


if __name__ == "__main__":
    sys.exit(main())
