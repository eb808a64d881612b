"""Rows of every kind, a version that is gone on from, and a base model that is trained whole."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import Manifest
from tests.training.runs.conftest import Train
from tests.training.runs.test_crashes import options, the_run, versions, whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS: dict[str, list[dict[str, Any]]] = {
    "dpo": [
        {"prompt": f"case {n * 7919}", "chosen": "good apple", "rejected": "bad bread"} for n in range(60)
    ],
    "kto": [
        {"prompt": f"case {n * 7919}", "completion": ("apple", "bread")[n % 2], "label": n % 2 == 0}
        for n in range(60)
    ],
    "domain": [{"text": f"In case {n * 7919} an apple was eaten with bread number {n}."} for n in range(60)],
}


@pytest.mark.parametrize(
    ("recipe", "metric"), [("dpo", "preferred"), ("kto", "moved_rightly"), ("domain", "loss")]
)
def test_rows_of_every_kind_become_a_version(  # noqa: PLR0917 - fixtures
    recipe: str, metric: str, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """The recipe follows from the rows; they are judged by what they are, and the card says how."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS[recipe])) + "\n", encoding="utf-8")
    done = train("none", options(path, tiny_base, tmp_path, "--json", "--test-share", "0.25"), environment)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)["manifest"]
    assert manifest["lineage"]["config"]["method"] == recipe
    assert {score["metric"] for score in manifest["evaluation"]["scores"]} == {metric}
    assert len(versions(tmp_path)) == 1
    whole(tmp_path)
    assert "| validation |" not in (the_run(tmp_path).adapter / "README.md").read_text(encoding="utf-8")


def test_a_version_is_gone_on_from(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """The child has the parent's rank without being told, starts where it ended, and names it."""
    first = train(
        "none", options(rows, tiny_base, tmp_path, "--json", "--learning-rate", "0.005"), environment
    )
    assert first.returncode == 0, first.stderr
    begun = json.loads(first.stdout)["manifest"]["lineage"]["config"]
    again = options(rows, tiny_base, tmp_path, "--json", "--from", "fruit@1", "--epochs", "1", "--seed", "9")
    again = [word for word in again if word not in {"--rank", "4"}]
    second = train("none", again, environment)
    assert second.returncode == 0, second.stderr
    printed = json.loads(second.stdout)
    assert printed["version"] == "fruit@2"
    history = printed["manifest"]["lineage"]
    (newest, oldest) = versions(tmp_path)
    assert history["parent"] == f"fruit@1 {oldest.digest}"
    assert history["config"]["rank"] == 4
    assert history["config"]["validation_loss_before"] == pytest.approx(
        begun["validation_loss_after"], abs=0.02
    )
    assert "--from fruit@1" in history["command"]
    assert str(tmp_path / "state") not in Manifest.model_validate(newest.manifest).model_dump_json()


@pytest.mark.parametrize("dies", [False, True])
def test_a_base_model_is_trained_whole(
    *,
    dies: bool,
    rows: Path,
    tiny_base: Path,
    tmp_path: Path,
    environment: dict[str, str],
    train: Train,
) -> None:
    """The result is a model's folder with its lineage, and no version; also of a run that died beside it."""
    out = tmp_path / "out" / "model"
    full = ["--full", "--quantization", "none", "--learning-rate", "0.0001", "--out", str(out), "--json"]
    done = train("told:2" if dies else "none", options(rows, tiny_base, tmp_path, *full), environment)
    if dies:  # the copy is there, and nothing that says so
        assert (done.returncode, out.is_dir()) == (-signal.SIGKILL, True), done.stderr
        done = train("none", ["--resume", str(the_run(tmp_path).path), "--json"], environment)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["version"], printed["manifest"], printed["folder"]) == (None, None, str(out))
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "turnout-training.json"} <= names
    assert versions(tmp_path) == []
    assert the_run(tmp_path).read().state == "finished"
    assert not the_run(tmp_path).adapter.exists()
