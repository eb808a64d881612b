"""The command line as a whole, the programs it becomes, and what it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import output, passthrough
from gateway.cli.group import CliError
from tests.gateway.cli.conftest import Run


@pytest.mark.parametrize(
    ("command", "package"),
    [("train", "training"), ("data check", "training.data.cli check"), ("monitor", "monitoring")],
)
def test_passing_through(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, package: str) -> None:
    """All arguments go to the package unread, `--help` and unknown options too."""
    seen: list[list[str]] = []
    monkeypatch.setattr(passthrough.os, "execve", lambda _path, command, _env: seen.append(command))
    monkeypatch.setattr(passthrough.importlib.util, "find_spec", lambda _: object())
    run(f"{command} run --help --unknown 3 -x --json a=b")
    assert seen == [
        [
            sys.executable,
            "-P",
            "-m",
            *package.split(),
            "run",
            "--help",
            "--unknown",
            "3",
            "-x",
            "--json",
            "a=b",
        ]
    ]


@pytest.mark.parametrize(
    ("command", "module"),
    [("probe", "training.publishing.reference"), ("evaluate", "training.evaluation.cli")],
)
def test_commands_of_a_package(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, module: str) -> None:
    """Some commands are modules of their own in a package."""
    seen: list[list[str]] = []
    monkeypatch.setattr(passthrough.os, "execve", lambda _path, command, _env: seen.append(command))
    monkeypatch.setattr(passthrough.importlib.util, "find_spec", lambda _: object())
    run(f"{command} a b --help")
    assert seen == [[sys.executable, "-P", "-m", module, "a", "b", "--help"]]


def test_the_settings_file_is_passed_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What turnout.toml says reaches the program as variables; the environment goes before it."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(passthrough.os, "execve", lambda _path, _command, env: seen.append(env))
    monkeypatch.setattr(passthrough.importlib.util, "find_spec", lambda _: object())
    (tmp_path / "turnout.toml").write_text(
        "state_dir = '/var/x'\n[base]\nmodel = 'a/b'\n[store]\ncontrol_url = 'sqlite:///c.db'\n"
        "[recording]\nmax_text_chars = 4000\n",
        encoding="utf-8",
    )
    run("monitor run", TURNOUT_BASE__MODEL="c/d")
    assert seen[0]["TURNOUT_STATE_DIR"] == "/var/x"
    assert seen[0]["TURNOUT_STORE__CONTROL_URL"] == "sqlite:///c.db"
    assert seen[0]["TURNOUT_BASE__MODEL"] == "c/d"
    assert "TURNOUT_BASE__SERVED_NAME" not in seen[0]
    assert seen[0]["TURNOUT_ENGINE__QUANTIZATION"] == "bitsandbytes"
    assert seen[0]["TURNOUT_RECORDING__MAX_TEXT_CHARS"] == "4000"
    (tmp_path / "turnout.toml").write_text("[server]\nport = -1\n", encoding="utf-8")
    assert "server.port" in run("train x").stderr


@pytest.mark.parametrize(("command", "extra"), [("train", "training"), ("monitor", "monitoring")])
def test_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, extra: str) -> None:
    """A missing library names the extra to install."""
    monkeypatch.setattr(passthrough.importlib.util, "find_spec", lambda _: None)
    result = run(f"{command} run")
    assert (result.exit_code, f"pip install 'turnout[{extra}]'" in result.stderr) == (1, True)


def test_exit_codes_pass_through(tmp_path: Path) -> None:
    """The program's exit code is the command's, and its output is untouched."""
    code = (
        "import os, sys\n"
        "from gateway.cli.passthrough import become\n"
        "become('json.tool', sys.argv[1:], needs=())\n"
    )
    (tmp_path / "good.json").write_text("[1]", encoding="utf-8")
    for name, expected in (("good.json", 0), ("missing.json", 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, "--compact", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected
    with pytest.raises(CliError, match="no_such_library"):
        passthrough.become("json.tool", [], needs=("no_such_library",))


def test_the_start_is_light() -> None:
    """Neither `--help` nor `--version` imports the libraries that take their time."""
    code = (
        "import sys\n"
        "from gateway.cli.main import build_app\n"
        "build_app()\n"
        "heavy = {'fastapi', 'sqlalchemy', 'httpx', 'pydantic', 'uvicorn', 'alembic', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version_and_help(run: Run) -> None:
    """`--version` prints the version; every command has help."""
    assert re.fullmatch(r"turnout \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    text = run("--help").stdout
    for command in (
        "serve",
        "controller",
        "worker",
        "agent",
        "status",
        "top",
        "usage",
        "adapters",
        "routes",
        "keys",
        "train",
        "monitor",
        "doctor",
    ):
        assert command in text
    assert run("routes apply --help").exit_code == 0


def test_tables_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a row is one line however long it is, brackets are text, and columns are aligned."""
    long = "word " * 100
    output.print_table(["A", "B", "C"], [["x", f"{long}end", "[red]1"], ["longer", "y", None]], indent=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert f"{long}end" in lines[1]
    assert lines[1].endswith("[red]1")
    assert lines[0].index("B") == lines[1].index("word") == lines[2].index("y")
    assert lines[2].endswith("-")
    assert all(line.startswith("  ") and line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ages(seconds: float | None, text: str) -> None:
    """Durations are in the largest unit of which there are two."""
    assert output.age(seconds) == text
