"""Runs that are killed, interrupted, starved of disk or begun twice, in processes of their own."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import digest_of
from gateway.store.database import Database
from gateway.store.versions import VersionRow, Versions
from tests.training.runs.conftest import Train, quiet_environment, write_rows
from training.runs.folder import Run, all_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KILLED = -signal.SIGKILL


def options(rows: Path, base: Path, folder: Path, *more: str) -> list[str]:
    """Return the command that trains `fruit` for about twenty steps."""
    where = ["--base", str(base), "--base-name", "tiny", "--state-dir", str(folder / "state")]
    quick = [
        "--rank",
        "4",
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--copies-only",
        "--no-embeddings",
        "--personal",
        "off",
    ]
    return ["fruit", str(rows), *where, *quick, "--runs", str(folder / "runs"), "--no-track", *more]


def versions(folder: Path) -> list[VersionRow]:
    """Return the versions that were published."""
    if not (folder / "state" / "control.db").is_file():
        return []
    database = Database(f"sqlite:///{folder / 'state' / 'control.db'}", "control")
    try:
        database.migrate()
        return Versions(database).rows()
    finally:
        database.close()


def the_run(folder: Path) -> Run:
    """Return the only run."""
    (found,) = all_runs(folder / "runs")
    return found


def whole(folder: Path) -> None:
    """Check that what is published is whole, and that nothing lies about."""
    for row in versions(folder):
        blob = folder / "state" / "adapters" / "blobs" / row.digest.removeprefix("sha256:")
        assert digest_of(blob) == row.digest
    assert not list((folder / "state" / "adapters" / "incoming").glob("*"))


@pytest.fixture(scope="module")
def unbroken(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, train: Train) -> dict[str, Any]:
    """What a run that nobody disturbs gives."""
    folder = tmp_path_factory.mktemp("unbroken")
    path = write_rows(folder / "rows.csv")
    environment = quiet_environment(folder)
    done = train("none", options(path, tiny_base, folder, "--json"), environment)
    assert done.returncode == 0, done.stderr
    return {"printed": json.loads(done.stdout), "points": the_run(folder).points()}


@pytest.mark.parametrize(
    "stages",
    [
        ("prepared:3", "step:3"),
        ("step:9", "step:2"),
        ("checkpoint:2",),
        ("trained", "judged"),
        ("probed", "publishing"),
        ("published", "finished"),
    ],
    ids=lambda stages: "-".join(stages).replace(":", ""),
)
def test_a_run_that_is_killed_anywhere_goes_on_to_the_very_same_version(
    *,
    stages: tuple[str, ...],
    rows: Path,
    tiny_base: Path,
    tmp_path: Path,
    environment: dict[str, str],
    train: Train,
    unbroken: dict[str, Any],
) -> None:
    """Whatever line it died at, nothing is half-published, and the digest is that of an unbroken run."""
    done = train(stages[0], options(rows, tiny_base, tmp_path), environment)
    assert done.returncode == KILLED, done.stderr
    for stage in (*stages[1:], None):
        stopped = the_run(tmp_path)
        assert stopped.observed().state in {"killed", "finished"}
        whole(tmp_path)
        if stage is not None:
            done = train(stage, ["--resume", str(stopped.path)], environment)
            assert done.returncode == KILLED, done.stderr
    rows.unlink()  # its own copy is what a run goes on with
    stopped = the_run(tmp_path)
    if stopped.read().state != "finished":
        done = train(
            "none", ["--resume", stopped.path.name, "--runs", str(tmp_path / "runs"), "--json"], environment
        )
        assert done.returncode == 0, done.stderr
        assert "ended without a word while" in done.stderr
        assert json.loads(done.stdout)["version"] == "fruit@1"
    else:
        # It died between its last two lines: asking for more tidies up what it left.
        assert train("none", ["--resume", str(stopped.path)], environment).returncode == 2
    assert not stopped.rows.exists()
    (version,) = versions(tmp_path)
    assert version.digest == unbroken["printed"]["manifest"]["digest"]
    whole(tmp_path)
    state = stopped.read()
    assert (state.state, state.version) == ("finished", "fruit@1")
    assert [point.get("loss") for point in stopped.points()] == [
        point.get("loss") for point in unbroken["points"]
    ]


def test_a_dry_run_counts_what_a_run_does_and_leaves_nothing(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """Steps and rows are those of the run itself; time is measured, or known from the run before."""
    plain = options(rows, tiny_base, tmp_path, "--json")
    done = train("none", [*plain, "--dry-run"], environment)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["time"]["seconds"] is None
    assert first["memory"]["total"] > 0
    measured = train("none", [*plain, "--dry-run", "--measure"], environment)
    assert measured.returncode == 0, measured.stderr
    assert "real steps" in json.loads(measured.stdout)["time"]["rests_on"]
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "state").exists()
    assert train("none", plain, environment).returncode == 0
    last = the_run(tmp_path).points()[-1]["step"]
    assert first["steps"] == last
    assert first["rows"] == the_run(tmp_path).read().data["rows"]
    after = json.loads(train("none", [*plain, "--dry-run"], environment).stdout)
    assert "an earlier run like it" in after["time"]["rests_on"]


def test_an_interrupt_says_how_to_go_on(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """Ctrl-C ends with 130 and the command that resumes; the resumed run keeps its rows and its settings."""
    done = train("interrupt:4", options(rows, tiny_base, tmp_path), environment)
    assert done.returncode == 130, done.stderr
    stopped = the_run(tmp_path)
    assert f"turnout train --resume {stopped.path}" in done.stderr.replace("\n", "")
    assert stopped.read().state == "killed"
    assert versions(tmp_path) == []
    done = train("none", ["--resume", str(stopped.path)], environment)
    assert done.returncode == 0, done.stderr
    assert "ended without a word" not in done.stderr
    assert [str(row.ref) for row in versions(tmp_path)] == ["fruit@1"]
    assert not stopped.rows.exists()
    assert not stopped.checkpoints.exists()
    card = (stopped.adapter / "README.md").read_text(encoding="utf-8")
    assert "turnout train fruit" in card


def test_a_full_disk_at_a_checkpoint_is_said_and_the_run_goes_on_when_there_is_room(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """Exit code 1, one line that says what failed, nothing published; then it is resumed."""
    done = train("full", options(rows, tiny_base, tmp_path), environment)
    assert done.returncode == 1, done.stderr
    assert "checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    stopped = the_run(tmp_path)
    assert stopped.read().state == "failed"
    assert versions(tmp_path) == []
    done = train("none", ["--resume", str(stopped.path)], environment)
    assert done.returncode == 0, done.stderr
    assert len(versions(tmp_path)) == 1


def test_two_processes_never_work_on_one_run(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """The second is refused while the first holds the run, whoever asks."""
    done = train("step:3", options(rows, tiny_base, tmp_path), environment)
    assert done.returncode == KILLED, done.stderr
    held = Run.take(the_run(tmp_path).path)
    done = train("none", ["--resume", str(held.path)], environment)
    assert done.returncode == 1
    assert "another process works on this run" in done.stderr
    held.release()
