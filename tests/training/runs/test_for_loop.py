"""The training of a run of the loop: what it is asked for, and that it goes on where it was."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.core.loop import LoopPolicy
from gateway.store.database import Database
from gateway.store.versions import VersionRow, Versions
from training.data.reading import read_dataset
from training.publishing.lineage import read_fingerprint
from training.runs import for_loop
from training.runs.for_loop import app, loop_order

TRAIN = {"rank": 4, "epochs": 1, "batch_size": 8, "embeddings": False, "learning_rate": 1e-3}


def folder_of(path: Path) -> Path:
    """Leave in a folder what the controller and the curation leave in a run's."""
    path.mkdir()
    rows = [
        {
            "prompt": f"case {number * 7919}",
            "completion": ("apple", "bread")[number % 2],
            "row_id": f"row-{number}",
        }
        for number in range(60)
    ]
    (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "policy.json").write_text(LoopPolicy.model_validate({"train": TRAIN}).model_dump_json())
    (path / "run.json").write_text(json.dumps({"run": path.name, "route": "support", "drift_id": 17}))
    (path / "curate.json").write_text(
        json.dumps({"outcome": "ready", "rows": 60, "fingerprint": "sha256:rows"})
    )
    return path


def test_what_is_asked_of_the_training(tmp_path: Path) -> None:
    """The policy's options, the run's rows and lineage, and the fleet's places of the environment."""
    folder = folder_of(tmp_path / "loop-1")
    told = {"TURNOUT_STATE_DIR": "/state", "TURNOUT_BASE__MODEL": "b", "TURNOUT_ENGINE__MAX_LORA_RANK": "8"}
    order = loop_order(folder, told, name="support", method="sft", parent="support@3")
    assert (order.name, order.recipe, order.from_version, order.base) == ("support", "sft", "support@3", "b")
    assert (order.rank, order.epochs, order.learning_rate) == (4, 1.0, 1e-3)
    assert order.test_share == 0.3  # of sixty rows; the policy could have set it
    assert (order.loop_run, order.drift_id, order.curated) == ("loop-1", 17, "sha256:rows")
    assert (order.source, order.runs) == (str(folder / "train.jsonl"), folder / "training")
    assert (order.state_dir, order.max_rank, order.track, order.publish) == (Path("/state"), 8, "none", True)


@pytest.mark.parametrize(
    ("served", "wanted"),
    [(None, None), ("bitsandbytes", None), ("fp8", None), ("none", "none"), ("", "none")],
)
def test_a_fleet_that_does_not_quantize_trains_on_a_base_that_is_not(
    tmp_path: Path, served: str | None, wanted: str | None
) -> None:
    """A policy can't say it, and an adapter learns to undo the rounding errors of the base it is for."""
    told = {} if served is None else {"TURNOUT_ENGINE__QUANTIZATION": served}
    order = loop_order(folder_of(tmp_path / "loop-1"), told, name="support", method="sft", parent=None)
    assert order.quantization == wanted


@pytest.mark.parametrize("lost", ["run.json", "policy.json", "curate.json"])
def test_a_folder_that_lacks_something_trains_nothing(tmp_path: Path, lost: str) -> None:
    """The error says what is missing."""
    folder = folder_of(tmp_path / "loop-1")
    (folder / lost).unlink()
    with pytest.raises(OSError, match=re.escape(lost)):
        loop_order(folder, {}, name="support", method="sft", parent=None)


@pytest.fixture
def told(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory and a small base model, as the environment names them; one thread."""
    import torch

    torch.set_num_threads(1)
    state = tmp_path / "state"
    monkeypatch.setenv("TURNOUT_STATE_DIR", str(state))
    monkeypatch.setenv("TURNOUT_BASE__MODEL", str(tiny_base))
    monkeypatch.setenv("TURNOUT_BASE__SERVED_NAME", "tiny")
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return state


def versions(state: Path) -> list[VersionRow]:
    """Return the versions that were published."""
    database = Database(f"sqlite:///{state / 'control.db'}", "control")
    try:
        return Versions(database).rows()
    finally:
        database.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_training_goes_on_and_publishes_once(
    tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before it publishes it goes on; stopped before it says so it publishes nothing again."""
    folder = folder_of(tmp_path / "loop-1")
    command = ["--out", str(folder), "--name", "support", "--method", "sft"]

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("training.runs.session.publish", stopped)
        first = CliRunner().invoke(app, command)
        assert first.exit_code == 130, first.output
    assert not (folder / "train.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(for_loop, "replace_file", stopped)
        assert CliRunner().invoke(app, command).exit_code == 130
    assert not (folder / "train.json").exists()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "train.json").read_text())["version"] == "support@1"
    (row,) = versions(told)
    lineage = row.manifest["lineage"]
    assert (lineage["loop_run"], lineage["drift_id"], lineage["curated_fingerprint"]) == (
        "loop-1",
        17,
        "sha256:rows",
    )
    read = read_dataset(str(folder / "train.jsonl")).rows
    assert lineage["read_fingerprint"] == read_fingerprint(read)
    assert len(list((folder / "training").glob("*/run.json"))) == 1


def test_a_training_that_changed_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights are the parent's version again: no result, an exit code that is not tried again."""
    folder = folder_of(tmp_path / "loop-1")
    monkeypatch.setattr(for_loop, "_trained", lambda *_: "support@3")
    words = ["--out", str(folder), "--name", "support", "--method", "sft", "--from", "support@3"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "no step of the training was better than support@3" in found.output
    assert not (folder / "train.json").exists()
