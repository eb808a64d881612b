"""SIGHUP: what is taken, what waits for a restart, and that wrong settings change nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway import reloading
from gateway.app import create_app
from gateway.controller.main import _takes
from gateway.controller.pruner import Pruner, PrunerConfig
from gateway.reloading import RELOADABLE, Reread
from gateway.settings import Settings, load

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BEFORE = '[log]\nlevel = "info"\n[limits]\nmax_queue = 10\n[server]\nport = 8080\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that is in use."""
    for name in ("TURNOUT_LOG__LEVEL", "TURNOUT_LOG__FORMAT"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "turnout.toml"
    path.write_text(BEFORE, encoding="utf-8")
    return path


class Process:
    """One process: what it took, and what it said."""

    def __init__(self, file: Path, *names: str, passes_on: bool = False) -> None:
        self.took: list[Settings] = []
        self.said: list[str] = []
        takes = None if passes_on else dict.fromkeys(names, self.took.append)
        self.reread = Reread(load(file), lambda: load(file), takes=takes, tell=self.said.append)


def test_what_can_be_taken_is(file: Path) -> None:
    """A process takes what it can of what has changed, once, and says so; the rest is not its matter."""
    process = Process(file, "log.level", "limits.max_queue")
    assert process.reread.again()
    assert (process.took, process.said) == ([], [])
    file.write_text(BEFORE.replace("info", "debug").replace("10", "20").replace("8080", "9000"))
    assert process.reread.again()
    (taken,) = process.took
    assert (taken.log.level, taken.limits.max_queue) == ("debug", 20)
    assert process.said == ["settings taken: limits.max_queue, log.level"]
    assert process.reread.again()
    assert len(process.took) == 1


def test_what_waits_for_a_restart(file: Path) -> None:
    """Who passes the signal on says what was taken and what was not, the second as long as it is so."""
    process = Process(file, passes_on=True)
    file.write_text(BEFORE.replace("info", "debug").replace("8080", "9000"))
    for taken in ("log.level", "nothing to take"):
        assert process.reread.again()
        assert process.said.pop() == f"settings read again: {taken}; these need a restart: server.port"


@pytest.mark.parametrize("text", ["[log]\nlevel = 'loud'\n", "[log", "[logs]\n", None])
def test_wrong_settings_change_nothing(file: Path, text: str | None) -> None:
    """A file that is wrong or gone leaves what is in use, with the reason; mended, it is taken."""
    process = Process(file, "log.level")
    file.unlink() if text is None else file.write_text(text)
    assert not process.reread.again()
    assert process.took == []
    assert process.said.pop().startswith("the settings are not taken, those of before stay: ")
    file.write_text(BEFORE.replace("info", "error"))
    assert process.reread.again()
    assert process.took[0].log.level == "error"


def test_no_secret_is_said(file: Path) -> None:
    """Only the names of settings are told, never their values."""
    process = Process(file, passes_on=True)
    file.write_text(f'{BEFORE}[auth]\nadmin_key = "swordfish"\n')
    assert process.reread.again()
    assert process.said == ["settings read again: nothing to take; these need a restart: auth.admin_key"]


def test_what_is_reloadable_is_taken_and_documented(tmp_path: Path) -> None:
    """Gateway and controller together take every reloadable setting, and the documents name each."""
    gateway = create_app(Settings(state_dir=tmp_path)).state.gateway
    pruner = Pruner({}, config=PrunerConfig())
    controller = SimpleNamespace(upkeep=SimpleNamespace(pruner=pruner))
    logged = {"log.format", "log.level"}
    assert gateway.takes.keys() | logged | _takes(controller).keys() == RELOADABLE  # type: ignore[arg-type]
    page = OPERATIONS.read_text(encoding="utf-8").partition("## Settings without a restart")[2]
    for name in RELOADABLE:
        assert f"`{name}`" in page or f"`{name.split('.')[0]}.*`" in page, name
    kept = Settings.model_validate({"retention": {"requests_h": 2, "drift_h": 1}})
    gateway.takes["retention.requests_h"](kept)
    _takes(controller)["retention.drift_h"](kept)  # type: ignore[arg-type]
    shown = gateway.telemetry.registry.get_sample_value("turnout_retention_seconds", {"rows": "requests"})
    assert (shown, pruner._retention.requests_s, pruner._retention.drift_s) == (7200, 7200, 3600)


def test_what_is_reloadable_exists() -> None:
    """Each reloadable name is a setting."""
    assert reloading.flat(Settings()).keys() >= RELOADABLE
