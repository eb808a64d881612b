"""scripts/setup.py and scripts/lock.py: what they decide, without installing anything."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up script, working on an empty project."""
    module = _script("setup")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.txt").write_text("# all\ntorch==1+cpu\nother==2\n")
    (tmp_path / "requirements" / "gateway.txt").write_text("other==2\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    venv = tmp_path / ".venv"
    for name, place in {
        "ROOT": tmp_path,
        "VENV": venv,
        "PYTHON": venv / "bin" / "python",
        "STAMP": venv / "turnout-setup.json",
        "LOG": tmp_path / ".cache" / "setup.log",
    }.items():
        monkeypatch.setattr(module, name, place)
    monkeypatch.delenv("TURNOUT_ENGINE__DEVICE", raising=False)
    return module


def _installed(setup: ModuleType, lock: str, *, distributions: tuple[str, ...] = ()) -> None:
    setup.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    setup.PYTHON.touch()
    packages = setup.VENV / "lib" / "python3.11" / "site-packages"
    for distribution in distributions:
        (packages / f"{distribution}.dist-info").mkdir(parents=True)
    setup.STAMP.write_text(json.dumps(setup._stamp(lock)))


@pytest.mark.parametrize(
    ("variable", "file", "expected"),
    [
        ("cpu", None, "cpu"),
        ("cuda", None, "cuda"),
        (None, '[engine]\ndevice = "cuda"\n', "cuda"),
        ("cpu", '[engine]\ndevice = "cuda"\n', "cpu"),
    ],
)
def test_device(
    variable: str | None,
    file: str | None,
    expected: str,
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment's engine.device goes before the file's, and both before what the machine has."""
    if variable:
        monkeypatch.setenv("TURNOUT_ENGINE__DEVICE", variable)
    if file:
        (setup.ROOT / "turnout.toml").write_text(file)
    assert setup.device() == expected


@pytest.mark.parametrize(("gpu", "expected"), [("/usr/bin/nvidia-smi", "cuda"), (None, "cpu")])
def test_device_of_the_machine(
    gpu: str | None, expected: str, setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting the machine decides."""
    monkeypatch.setattr(setup.shutil, "which", lambda _name: gpu)
    monkeypatch.setattr(setup.Path, "exists", lambda _path: False)
    monkeypatch.setattr(setup.Path, "is_file", lambda _path: False)
    assert setup.device() == expected


def test_an_unknown_device_is_refused(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not exist is named in the message."""
    monkeypatch.setenv("TURNOUT_ENGINE__DEVICE", "tpu")
    with pytest.raises(setup.Failed, match="'tpu'"):
        setup.device()


def test_a_finished_set_up_is_recognised(setup: ModuleType) -> None:
    """What was installed counts until the lock, pyproject.toml, the kind or the place changes."""
    assert not setup.finished("cpu")
    _installed(setup, "cpu")
    assert setup.finished("cpu")
    assert not setup.finished("gateway")
    (setup.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert not setup.finished("cpu")


def test_a_finished_set_up_does_nothing(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run prints nothing and starts nothing."""
    monkeypatch.setenv("TURNOUT_ENGINE__DEVICE", "cpu")
    _installed(setup, "cpu")
    monkeypatch.setattr(setup.subprocess, "Popen", lambda *_, **__: pytest.fail("started something"))
    assert setup.main([]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("distributions", "expected"),
    [
        (("torch-2.13.0+cpu",), []),
        (("torch-2.13.0+cpu", "torchvision-0.28.0", "torchcodec-0.17.0"), ["torchcodec", "torchvision"]),
        (("torch-2.13.0+cpu", "torchvision-0.28.0+cpu"), []),
        (("torch-2.13.0", "torchvision-0.28.0"), []),
        ((), []),
    ],
)
def test_broken_packages(distributions: tuple[str, ...], expected: list[str], setup: ModuleType) -> None:
    """Only CUDA-linked companions of a CPU torch are broken, and they make a set-up unfinished."""
    _installed(setup, "cpu", distributions=distributions)
    assert setup.broken() == expected
    assert setup.finished("cpu") == (not expected)


@pytest.mark.parametrize(
    ("place", "python", "finished", "made_again"),
    [
        (".venv", "same", False, False),
        (".venv", "other", False, True),
        (".venv", "other", True, False),
        ("elsewhere", "same", True, True),
    ],
)
def test_an_environment_is_kept_or_made_again(
    *,
    place: str,
    python: str,
    finished: bool,
    made_again: bool,
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copied environment is made again, and so is an unfinished one of another Python."""
    made: list[str] = []
    monkeypatch.setattr(setup, "_run", lambda what, *_, **__: made.append(what))
    _installed(setup, "cpu")
    if not finished:
        setup.STAMP.unlink()
    version = ".".join(str(part) for part in sys.version_info[:3]) if python == "same" else "3.5.1"
    (setup.VENV / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    (setup.VENV / "bin" / "pip").write_text(f"#!{setup.ROOT / place}/bin/python\n")
    setup._make_venv()
    assert bool(made) == made_again


def test_a_step_that_fails_shows_its_end_and_what_to_do(setup: ModuleType) -> None:
    """The failure holds the last lines of the output, the advice, and the whole is in the log."""
    setup.LOG.parent.mkdir()
    code = "print('one'); print('No matching distribution found for torch==1+cpu'); raise SystemExit(1)"
    with pytest.raises(setup.Failed) as failed:
        setup._run("installing", [sys.executable, "-c", code], advice=setup.TORCH_ADVICE)
    assert "No matching distribution" in str(failed.value)
    assert "PIP_EXTRA_INDEX_URL" in str(failed.value)
    assert setup.LOG.read_text().splitlines()[1:] == [
        "one",
        "No matching distribution found for torch==1+cpu",
    ]


@pytest.mark.parametrize(
    ("there", "outcome", "told"),
    [
        ({"prometheus", "promtool", "postgres"}, None, ""),
        ({"apt-get", "dpkg-deb"}, "fetched", ""),
        ({"apt-get", "dpkg-deb"}, "failed", "could not fetch"),
        (set(), None, "there is no apt-get"),
    ],
)
def test_programs_of_tests_are_fetched_where_they_can_be(
    *,
    there: set[str],
    outcome: str | None,
    told: str,
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They come out of Debian's packages when the machine lacks them; else it is said what is not tested."""
    (setup.VENV / "bin").mkdir(parents=True)
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    monkeypatch.setattr(setup, "POSTGRESQL", setup.VENV / "postgresql")
    glob = setup.Path.glob
    monkeypatch.setattr(
        setup.Path,
        "glob",
        lambda path, pattern: () if str(path).startswith("/usr/") else glob(path, pattern),
    )

    def run(_what: str, command: list[str], **_: object) -> None:
        if outcome == "failed":
            raise setup.Failed("no network")
        assert f"timeout {setup.FETCH_S} " in command[-1]
        scratch = Path(command[-1].split("(cd ")[1].split(" && ")[0])
        (scratch / "usr" / "bin").mkdir(parents=True)
        for name in setup.PROMETHEUS:
            (scratch / "usr" / "bin" / name).touch()
        for part in ("lib/postgresql/15/bin", "share/postgresql/15"):
            (scratch / "usr" / part).mkdir(parents=True)
        (scratch / "usr/lib/postgresql/15/bin/postgres").touch()

    monkeypatch.setattr(setup, "_run", run)
    setup._fetch_programs()
    fetched = outcome == "fetched"
    assert (setup.VENV / "bin" / "promtool").exists() == fetched
    assert (setup.POSTGRESQL / "usr/lib/postgresql/15/bin/postgres").exists() == fetched
    said = capsys.readouterr().out
    assert said.count(told) == (2 if told else len(said) + 1)
    assert bool(said) == bool(told)


def test_progress(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step prints a line when it begins and one with its time when it ends."""
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    with setup._Progress("working") as progress:
        progress.ok = True
    assert printed.getvalue().splitlines() == ["  … working", "  ✓ working (0 s)"]


def test_an_old_python_gets_a_message() -> None:
    """The script is readable to an older Python as far as its own check, and says what is needed."""
    setup = _script("setup")
    assert setup.OLDEST == (3, 11)
    source = (ROOT / "scripts" / "setup.py").read_text(encoding="utf-8")
    compile(source, "setup.py", "exec", dont_inherit=True)
    assert "import tomllib" not in source.split("def device")[0]


def test_help_needs_no_installation() -> None:
    """The system's Python alone can run the script."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "scripts" / "setup.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--only" in done.stdout


def _entry(name: str, *requires: str) -> dict[str, object]:
    return {"name": name, "version": "1", "requires_dist": list(requires)}


def test_a_lock_reaches_only_what_is_required() -> None:
    """The walk follows extras and markers, and neither reaches nor crosses what is left out."""
    lock = _script("lock")
    packages = {
        "app": _entry("app", "plain", "withextra[x]", "left-out", "old; python_version < '3'"),
        "plain": _entry("plain"),
        "withextra": _entry("withextra", "of-x; extra == 'x'", "of-y; extra == 'y'"),
        "left-out": _entry("left-out", "only-for-it"),
        "of-x": _entry("of-x"),
    }
    reached = lock._reach(packages, ["app"], without=frozenset({"left-out"}))
    assert reached == {"app", "plain", "withextra", "of-x"}


def test_a_lock_reads_what_it_wrote(tmp_path: Path) -> None:
    """Pins survive being written and read, local versions and `===` included."""
    lock = _script("lock")
    pins = {"torch": "2.13.0", "other": "1.0+cpu"}
    path = tmp_path / "cuda.txt"
    path.write_text(lock.render("cuda", pins), encoding="utf-8")
    assert "torch===2.13.0\n" in path.read_text(encoding="utf-8")
    assert lock.read(path) == pins
