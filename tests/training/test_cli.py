"""The command line of `turnout train`, up to where the model would be loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training import cli
from training.cli import app

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "numpy")


def rows(folder: Path) -> Path:
    """Write a few rows and return the file."""
    path = folder / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' * 3, encoding="utf-8")
    return path


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    """The help is there in a moment, also where the training extra is not installed."""
    script = (
        "import sys; from training.cli import app\n"
        "try: app(['--help'], prog_name='turnout train')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--learning-rate" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["Bad Name"], "can't name an adapter"),
        (["base"], "can't name an adapter"),
        (["x", "--no-publish"], "add --out"),
        (["x", "--rank", "32"], "--rank 32 is above the 16"),
        (["x", "--epochs", "0"], "--epochs is 0"),
        (["x", "--learning-rate", "5"], "--learning-rate is 5"),
        (["x", "--dtype", "int4"], "--dtype is int4"),
        (["x", "--test-share", "1"], "--test-share 1"),
        (["x", "--metric", "vibes"], "--metric vibes"),
        (["x", "--prompt-column", "text"], "'text' is missing"),
        (["x", "--out", "."], "exists already"),
    ],
)
def test_wrong_options_end_with_2_before_any_work(tmp_path: Path, options: list[str], said: str) -> None:
    """A mistake is found in a moment and says which option it is."""
    name, *others = options
    done = CliRunner().invoke(app, [name, str(rows(tmp_path)), "--state-dir", str(tmp_path / "s"), *others])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "s").exists()


def test_unknown_options_and_missing_arguments_end_with_2(tmp_path: Path) -> None:
    """Bad usage has exit code 2."""
    assert CliRunner().invoke(app, ["x"]).exit_code == 2
    assert CliRunner().invoke(app, ["x", str(rows(tmp_path)), "--nonsense"]).exit_code == 2


def test_too_few_rows_end_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that can't be judged by is a mistake of the caller, found before torch is loaded."""
    monkeypatch.setattr(cli, "prepare", lambda *_: tmp_path)
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    done = CliRunner().invoke(app, ["x", str(rows(tmp_path)), "--base", "some/model"])
    assert done.exit_code == 2
    assert "3 rows leave" in done.stderr
    assert not list((tmp_path / "cache" / "training").iterdir())


@pytest.mark.parametrize(
    ("fault", "code"), [(OSError("disk"), 1), (ImportError("no peft"), 1), (KeyboardInterrupt(), 130)]
)
def test_other_failures_have_codes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int
) -> None:
    """What is no mistake of the caller does not end with 2."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(cli, "prepare", fail)
    assert CliRunner().invoke(app, ["x", str(rows(tmp_path))]).exit_code == code


def test_defaults_are_those_of_the_gateway() -> None:
    """Without options, training publishes to where `turnout serve` looks."""
    from gateway.settings import Settings
    from training.config import MAX_RANK
    from training.publishing.publish import control_url

    settings = Settings()
    assert settings.engine.max_lora_rank == MAX_RANK
    assert control_url(Path(".turnout"), None) == settings.control_url
    assert Path(".turnout").absolute() / "adapters" == settings.blob_root
