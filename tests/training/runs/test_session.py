"""A run that is gone on with after a search, and what it puts out."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.config import TrainConfig
from training.data.rows import Example
from training.data.splits import Splits
from training.fitting.recipes import sft
from training.progress import Progress
from training.publishing.lineage import LINEAGE
from training.runs.folder import Run
from training.runs.order import order_of
from training.runs.session import Session, resume
from training.runs.settings import config_document
from training.runs.snapshot import Snapshot

QUIET = Progress(quiet=True)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run's folder, locked."""
    made = Run.create(tmp_path / "runs", "fruit")
    yield made
    made.release()


class TrainingBegins(Exception):
    """Stands for all that comes after the search."""


def searched(run: Run, best: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Let a run have died after its search, and return a list of the settings it then trains with."""
    order = order_of({"name": "fruit", "source": "rows.csv", "search": 2, "track": "none", "publish": False})
    row = Example(({"role": "user", "content": "case 1"},), "apple")
    data = {"source": "rows.csv", "terms": "not stated", "fingerprint": "sha256:rows", "rows": {}}
    run.update(
        order=order.document(), config=config_document(sft()), base={"name": "b"}, data=data, state="failed"
    )
    run.write("rows.jsonl", Snapshot("examples", Splits((row,), (row,), (row,))).text())
    run.write("winner.json", json.dumps(config_document(best)) + "\n")
    trained: list[TrainConfig] = []

    def train(self: Session, snapshot: Snapshot) -> Any:
        trained.append(self._job(snapshot).config)
        raise TrainingBegins

    monkeypatch.setattr(Session, "_train", train)
    return trained


def test_what_takes_less_memory_is_put_onto_the_best_settings_of_a_search(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search's choice is kept with what the resume gives, also by a later one that gives nothing."""
    trained = searched(run, sft(rank=4, batch_size=16), monkeypatch)
    for changes in ({"gradient_checkpointing": "on", "unpack_base": "off", "accumulation": 4}, {}):
        with pytest.raises(TrainingBegins):
            resume(run, QUIET, changes=changes)
    wanted = sft(rank=4, batch_size=16, gradient_checkpointing=True, unpack_base=False, accumulation=4)
    assert trained == [wanted, wanted]
    assert run.read().config == config_document(wanted)


def test_an_accumulation_that_does_not_fit_the_best_settings_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says whose batch size it is, trains nothing, and another accumulation goes on."""
    trained = searched(run, sft(rank=4, batch_size=4), monkeypatch)
    with pytest.raises(
        ValueError, match=r"--accumulation is 8, .* the batch size 4; the search has chosen that batch size"
    ):
        resume(run, QUIET, changes={"accumulation": 8})
    assert trained == []
    with pytest.raises(TrainingBegins):
        resume(run, QUIET, changes={"accumulation": 2})
    assert trained == [sft(rank=4, batch_size=4, accumulation=2)]


def whole_model(folder: Path, weights: str) -> Path:
    """Write the folder of a base model that was trained whole."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_text(weights, encoding="utf-8")
    (folder / LINEAGE).write_text('{"seconds": 1.0}', encoding="utf-8")
    return folder


def full(run: Run, out: Path) -> tuple[Session, Any]:
    """Return a run that has trained a model whole, and its maker, which writes the lineage anew."""
    order = order_of(
        {"name": "fruit", "source": "r", "full": True, "quantization": "none", "out": out, "track": "none"}
    )
    whole_model(run.adapter, "weights")
    lineage = run.adapter / LINEAGE
    maker = SimpleNamespace(
        adapter=run.adapter,
        finish_full=lambda: lineage.write_text(f'{{"seconds": {len(lineage.read_text())}}}'),
        trained=lambda: SimpleNamespace(steps=9),
    )
    return Session(run, order, QUIET), maker


def test_a_model_that_was_put_out_before_a_death_is_the_runs_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the copy and the last word, the run finishes with the copy that is there."""
    out = tmp_path / "out"
    made, maker = full(run, out)
    update = Run.update

    def dying(self: Run, **changes: Any) -> Any:
        if changes.get("state") == "finished":
            raise KeyboardInterrupt
        return update(self, **changes)

    monkeypatch.setattr(Run, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        made._finish_full(maker)
    assert (out / "model.safetensors").read_text(encoding="utf-8") == "weights"
    monkeypatch.setattr(Run, "update", update)
    assert made._finish_full(maker).folder == out
    assert (run.read().state, run.adapter.exists()) == ("finished", False)


@pytest.mark.parametrize("other", ["another model", "the same weights without lineage", "an empty folder"])
def test_what_is_not_the_runs_own_is_never_taken_for_it(run: Run, tmp_path: Path, other: str) -> None:
    """It is left as it is, and the run says that it is in the way."""
    out = tmp_path / "out"
    made, maker = full(run, out)
    if other == "an empty folder":
        out.mkdir()
    else:
        whole_model(out, "weights" if "same" in other else "others")
    if "without" in other:
        (out / LINEAGE).unlink()
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(FileExistsError, match="is not this run's"):
        made._finish_full(maker)
    assert sorted(path.name for path in out.iterdir()) == before
