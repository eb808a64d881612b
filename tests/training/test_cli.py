"""The command line of `turnout train`, up to where the model would be loaded."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.runs import preparing
from training.runs.folder import Run
from training.runs.order import Order

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "numpy")


def rows(folder: Path, count: int = 3) -> Path:
    """Write a few rows and return the file."""
    path = folder / "rows.jsonl"
    lines = [f'{{"prompt": "what is {number}", "completion": "{number}"}}' for number in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    """The help is there in a moment, also where the training extra is not installed."""
    script = (
        "import sys; from training.cli import app\n"
        "try: app(['--help'], prog_name='turnout train')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    )
    for part in ("--learning-rate", "Method and LoRA", "Search", "--resume", "Publishing"):
        assert part in done.stdout
    assert done.stdout.rstrip().endswith("[]")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["Bad Name"], "can't name an adapter"),
        (["base"], "can't name an adapter"),
        (["x", "--rank", "32"], "rank 32 is above the 16"),
        (["x", "--epochs", "0"], "--epochs is 0"),
        (["x", "--learning-rate", "5"], "--learning-rate is 5"),
        (["x", "--dtype", "int4"], "--dtype is int4"),
        (["x", "--adapter", "dora"], "DoRA"),
        (["x", "--recipe", "stf"], "--recipe stf"),
        (["x", "--recipe", "domain"], "texts"),
        (["x", "--test-share", "1"], "--test-share 1"),
        (["x", "--metric", "vibes"], "--metric vibes"),
        (["x", "--probe", "only one"], "1 probes are too few"),
        (["x", "--prompt-column", "text"], "'text'"),
        (["x", "--out", "."], "exists already"),
        (["x", "--config", "none.toml"], "there is no such file"),
        (["x", "--search", "3", "--processes", "2"], "leave --processes out"),
        (["x", "--on", "auto", "--processes", "2"], "--on trains in one process"),
    ],
)
def test_wrong_options_end_with_2_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    """A mistake is found in a moment and says which option it is; no state and no run is left."""
    monkeypatch.setattr(preparing, "prepare", lambda *_: tmp_path)
    name, *others = options
    done = CliRunner().invoke(app, [name, str(rows(tmp_path)), "--state-dir", str(tmp_path / "s"), *others])
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (tmp_path / "s").exists()
    assert not list((tmp_path / "cache").glob("runs/*"))


def test_unknown_options_and_missing_arguments_end_with_2(tmp_path: Path) -> None:
    """Bad usage has exit code 2."""
    assert CliRunner().invoke(app, ["x"]).exit_code == 2
    assert CliRunner().invoke(app, []).exit_code == 2
    assert CliRunner().invoke(app, ["x", str(rows(tmp_path)), "--nonsense"]).exit_code == 2


def test_too_few_rows_end_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Data that can't be judged by is a mistake of the caller, found before torch is loaded."""
    monkeypatch.setattr(preparing, "prepare", lambda *_: tmp_path)
    done = CliRunner().invoke(app, ["x", str(rows(tmp_path)), "--base", "some/model", "--no-embeddings"])
    assert done.exit_code == 2
    assert "3 rows leave" in done.stderr
    assert not list((cache / "runs").iterdir())


@pytest.mark.parametrize(
    ("fault", "code"), [(OSError("disk"), 1), (ImportError("no peft"), 1), (KeyboardInterrupt(), 130)]
)
def test_other_failures_have_codes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, fault: BaseException, code: int
) -> None:
    """What is no mistake of the caller does not end with 2; before training there is nothing to resume."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(preparing, "prepare", fail)
    done = CliRunner().invoke(app, ["x", str(rows(tmp_path, 100)), "--no-embeddings"])
    assert done.exit_code == code, done.output
    assert "--resume" not in done.stderr
    assert not list((cache / "runs").iterdir())


def test_a_file_sets_options_and_flags_win_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--print-config` shows what would be done, as a file that would do it again."""
    monkeypatch.setenv("TURNOUT_ENGINE__MAX_LORA_RANK", "64")
    monkeypatch.setenv("TURNOUT_BASE__MODEL", "from/environment")
    monkeypatch.setenv("TURNOUT_RECORDING__MAX_TEXT_CHARS", "4000")
    path = tmp_path / "train.toml"
    path.write_text(
        'name = "fruit"\nrank = 4\nepochs = 2\nbase = "from/file"\nrecipe = "dpo"\n', encoding="utf-8"
    )
    done = CliRunner().invoke(
        app, ["apple", "--config", str(path), "--rank", "32", "--no-packing", "--print-config"]
    )
    assert done.exit_code == 0, done.output
    found = tomllib.loads(done.stdout)
    assert (found["name"], found["rank"], found["epochs"], found["base"]) == ("apple", 32, 2.0, "from/file")
    assert (found["max-rank"], found["packing"], found["recipe"]) == (64, False, "dpo")
    assert found["max-text-chars"] == 4000
    assert found["beta"] == 0.1
    again = tmp_path / "again.toml"
    again.write_text(done.stdout, encoding="utf-8")
    assert CliRunner().invoke(app, ["--config", str(again), "--print-config"]).stdout == done.stdout


@pytest.mark.parametrize(
    ("served", "options", "wanted"),
    [
        ("none", [], "none"),
        ("none", ["--quantization", "nf4"], "nf4"),
        ("bitsandbytes", [], "nf4"),
        ("bitsandbytes", ["--quantization", "none"], "none"),
    ],
)
def test_the_base_is_quantized_as_the_fleet_serves_it_unless_said(
    monkeypatch: pytest.MonkeyPatch, served: str, options: list[str], wanted: str
) -> None:
    """`turnout` passes the settings of the engines on; an option wins over them."""
    monkeypatch.setenv("TURNOUT_ENGINE__QUANTIZATION", served)
    done = CliRunner().invoke(app, ["x", "rows.jsonl", "--recipe", "sft", *options, "--print-config"])
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout)["quantization"] == wanted


def test_a_file_of_a_run_that_goes_on_leaves_the_shape_to_the_version() -> None:
    """The recipe's rank would contradict it."""
    done = CliRunner().invoke(
        app, ["x", "rows.jsonl", "--recipe", "domain", "--from", "x@1", "--alpha", "4", "--print-config"]
    )
    found = tomllib.loads(done.stdout)
    assert not {"rank", "rslora", "target-modules"} & set(found)
    assert (found["alpha"], found["epochs"], found["from"]) == (4.0, 1.0, "x@1")


def test_resuming_takes_no_other_options(tmp_path: Path, cache: Path) -> None:
    """A run goes on as it began; what would change it is refused by name."""
    run = Run.create(cache / "runs", "fruit")
    for more, said in (
        (["--rank", "4"], "leave --rank out"),
        (["fruit"], "leave name out"),
        (["--dry-run"], "leave --dry-run out"),
    ):
        done = CliRunner().invoke(app, ["--resume", run.path.name, *more])
        assert done.exit_code == 2, done.output
        assert said in done.stderr
    run.update(state="finished", version="fruit@1")
    busy = CliRunner().invoke(app, ["--resume", run.path.name])
    assert busy.exit_code == 1
    assert "another process works on this run" in busy.stderr
    run.release()
    over = CliRunner().invoke(app, ["--resume", run.path.name])
    assert over.exit_code == 2
    assert "is finished: fruit@1" in over.stderr
    assert CliRunner().invoke(app, ["--resume", str(tmp_path / "none")]).exit_code == 2


def test_a_password_is_not_kept_and_asked_for_again(cache: Path) -> None:
    """A run's folder holds no secret; going on without one says what is missing."""
    run = Run.create(cache / "runs", "fruit")
    order = Order(name="fruit", source="x", store_url="postgresql://u:hunter2@db/x")
    run.update(order=order.document(), state="training")
    run.release()
    assert "hunter2" not in (run.path / "run.json").read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["--resume", run.path.name])
    assert done.exit_code == 2
    assert "TURNOUT_STORE__CONTROL_URL" in done.stderr
    assert run.path.is_dir()


def test_defaults_are_those_of_the_gateway() -> None:
    """Without options, training publishes to where `turnout serve` looks."""
    from gateway.settings import Settings
    from training.config import MAX_RANK
    from training.publishing.publish import control_url

    settings = Settings()
    assert settings.engine.max_lora_rank == MAX_RANK
    assert control_url(Path(".turnout"), None) == settings.control_url
    assert Path(".turnout").absolute() / "adapters" == settings.blob_root
