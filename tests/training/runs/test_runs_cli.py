"""`turnout runs`: what is shown of runs, and how they go."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from training.runs.cli import app
from training.runs.folder import Run

MOMENT = 1_800_000_000.0


def runs(root: Path) -> list[Run]:
    """Make a finished, a killed and a running run, from old to new."""
    made = []
    for number, (name, state) in enumerate((("old", "finished"), ("dead", "training"), ("busy", "training"))):
        run = Run.create(root, name, now=MOMENT + number)
        run.append_metrics({"step": 3, "loss": 1.5, "seconds": 4.0})
        run.append_metrics({"step": 3, "validation_loss": 1.25, "seconds": 4.0})
        run.update(
            state=state,
            command=f"turnout train {name} rows.jsonl",
            data={"rows": {"train": 8, "test": 2}, "source": "rows.jsonl", "terms": "ours"},
            version="old@1" if state == "finished" else None,
        )
        made.append(run)
    for run in made[:2]:
        run.release()
    return made


def ask(root: Path, *arguments: str) -> Any:
    """Run the command and return what it did."""
    return CliRunner().invoke(app, [*arguments, "--runs", str(root)])


def test_runs_are_listed_with_their_true_state(tmp_path: Path) -> None:
    """The newest first; one without a process was killed, whatever its file says."""
    made = runs(tmp_path)
    done = ask(tmp_path, "list", "--json")
    assert done.exit_code == 0, done.output
    listed = json.loads(done.stdout)
    assert [(run["name"], run["state"]) for run in listed] == [
        ("busy", "training"),
        ("dead", "killed"),
        ("old", "finished"),
    ]
    assert listed[0]["last"]["validation_loss"] == 1.25
    assert "1.2500" in ask(tmp_path, "list").stdout
    made[2].release()


def test_a_run_that_stopped_is_shown_with_the_way_on(tmp_path: Path) -> None:
    """State, rows, figures and the command that resumes it."""
    made = runs(tmp_path)
    text = ask(tmp_path, "show", made[1].path.name).stdout
    for part in (
        "killed",
        "ended      without a word while training: kill -9",
        "8 train, 2 test from rows.jsonl (ours)",
        "loss 1.5000",
        f"--resume {made[1].path}",
    ):
        assert part in text
    assert json.loads(ask(tmp_path, "show", str(made[0].path), "--json").stdout)["version"] == "old@1"
    assert ask(tmp_path, "show", "none").exit_code == 2
    made[2].release()


def test_a_run_is_not_removed_under_its_process(tmp_path: Path) -> None:
    """Removing is refused while somebody works on it, and takes the whole folder otherwise."""
    made = runs(tmp_path)
    assert ask(tmp_path, "remove", made[2].path.name).exit_code == 1
    assert made[2].path.is_dir()
    assert ask(tmp_path, "remove", made[0].path.name).exit_code == 0
    assert not made[0].path.exists()
    made[2].release()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--keep", "1"), {"old", "dead", "busy"}),
        (("--keep", "0"), {"dead", "busy"}),
        (("--keep", "0", "--unfinished"), {"busy"}),
    ],
)
def test_pruning_takes_what_it_says(tmp_path: Path, options: tuple[str, ...], left: set[str]) -> None:
    """Runs that can go on are kept unless that was said; a run at work always is."""
    made = runs(tmp_path)
    assert ask(tmp_path, "prune", *options).exit_code == 0
    assert {run.read().name for run in made if run.path.exists()} == left
    made[2].release()


def test_no_runs_are_no_error(tmp_path: Path) -> None:
    """A fresh machine has an empty list."""
    done = ask(tmp_path / "none", "list", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
