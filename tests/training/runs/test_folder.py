"""The folder of a run: states, locks, and what a crash leaves."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from training.runs.folder import (
    NoSuchRun,
    Run,
    RunBusy,
    all_runs,
    appearing,
    find_run,
    replace_file,
    runs_dir,
)

MOMENT = 1_800_000_000.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make new runs, whose locks are let go of afterwards."""
    runs: list[Run] = []

    def make(name: str = "fruit", *, now: float = MOMENT) -> Run:
        runs.append(Run.create(tmp_path, name, now=now))
        return runs[-1]

    yield make
    for run in runs:
        run.release()


Make = Callable[..., Run]


def test_a_run_has_a_folder_of_its_own_that_only_its_owner_reads(made: Make) -> None:
    """Two runs of one second do not share a folder."""
    first, second = made(), made()
    assert first.path != second.path
    assert first.path.name.startswith("fruit-")
    assert second.path.name == f"{first.path.name}-2"
    assert first.path.stat().st_mode & 0o777 == 0o700
    assert (first.path / "run.json").stat().st_mode & 0o777 == 0o600
    state = first.read()
    assert (state.id, state.name, state.state) == (first.path.name, "fruit", "preparing")


def test_one_process_at_a_time_works_on_a_run(made: Make) -> None:
    """The second is told so, and may have it when the first is done."""
    run = made()
    with pytest.raises(RunBusy, match="another process works on this run"):
        Run.take(run.path)
    run.release()
    Run.take(run.path).release()


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    """What `run.json` says is believed only as long as somebody holds the lock."""
    script = (
        "import os, sys; from pathlib import Path; from training.runs.folder import Run\n"
        "run = Run.create(Path(sys.argv[1]), 'fruit'); run.update(state='training')\n"
        "print(run.path, flush=True); sys.stdin.read(); os._exit(9)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    run = Run(Path(process.stdout.readline().strip()))
    assert run.busy()
    assert run.observed().state == "training"
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 9
    assert not run.busy()
    assert run.read().state == "training"
    assert run.observed().state == "killed"


def test_states_are_replaced_whole(made: Make) -> None:
    """An update changes what it names, and leaves no scratch file."""
    run = made()
    run.update(state="training", config={"rank": 4})
    run.update(version="fruit@1")
    state = Run(run.path).read()
    assert (state.state, state.config, state.version) == ("training", {"rank": 4}, "fruit@1")
    assert not list(run.path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no run.json"),
        ("{", "can't be read"),
        ('{"format": 0}', "another release"),
        ('{"format": 1, "id": "x", "name": "y", "colour": "red"}', "another release"),
        ("[]", "another release"),
    ],
)
def test_what_is_no_run_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    """A folder of something else, or of another release, is not worked on."""
    if text is not None:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(NoSuchRun, match=said):
        Run(tmp_path).read()


def test_metrics_are_those_of_the_last_attempt(made: Make) -> None:
    """A resumed run repeats steps, and a crash may cut the last line: neither shows."""
    run = made()
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.5)):
        run.append_metrics({"step": step, "loss": loss})
    run.append_metrics({"step": 2, "validation_loss": 2.5})
    run.append_metrics({"step": 3, "loss": 1.25})
    with run.metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')
    assert run.points() == [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "validation_loss": 2.5},
        {"step": 3, "loss": 1.25},
    ]


def test_a_finished_run_keeps_neither_rows_nor_checkpoints(made: Make) -> None:
    """People's data does not pile up in folders of runs."""
    run = made()
    run.write("rows.jsonl", "{}\n")
    run.checkpoints.mkdir()
    (run.path / ".tmp-left").mkdir()
    run.adapter.mkdir()
    run.tidy()
    assert not run.rows.exists()
    assert not run.checkpoints.exists()
    assert not list(run.path.glob(".tmp-*"))
    assert run.adapter.is_dir()


def test_runs_are_found_by_folder_and_by_id_and_listed_newest_first(tmp_path: Path, made: Make) -> None:
    """What the list shows is what `--resume` takes."""
    old, new = made("a"), made("b", now=MOMENT + 5)
    assert [run.path for run in all_runs(tmp_path)] == [new.path, old.path]
    assert find_run(old.path, tmp_path / "elsewhere") == old.path
    assert find_run(Path(old.path.name), tmp_path) == old.path
    with pytest.raises(NoSuchRun, match="turnout runs list"):
        find_run(Path("none"), tmp_path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure half-way leaves nothing."""

    def half() -> None:
        with appearing(tmp_path / "adapter") as scratch:
            (scratch / "one").touch()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        half()
    assert list(tmp_path.iterdir()) == []
    with appearing(tmp_path / "adapter") as scratch:
        (scratch / "one").touch()
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["one"]


def test_files_are_private_unless_said_otherwise(tmp_path: Path) -> None:
    """What is published may be read by others."""
    replace_file(tmp_path / "a", "x")
    replace_file(tmp_path / "b", "y", mode=0o644)
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert json.dumps((tmp_path / "b").read_text(encoding="utf-8")) == '"y"'


def test_runs_lie_in_the_cache_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One place to look, and one option to move it."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path))
    assert runs_dir(None) == tmp_path / "runs"
    assert runs_dir(Path("/there")) == Path("/there")
