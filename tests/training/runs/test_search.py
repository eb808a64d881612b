"""Searches: trials that are compared, given up and, after a death, gone on with."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.manifest import BaseIdentity
from tests.training.runs.conftest import Train
from tests.training.runs.test_crashes import options, the_run, versions, whole
from training.config import TrainConfig
from training.data.rows import Example
from training.data.splits import Splits
from training.fitting.recipes import sft
from training.job import Job, Origin
from training.progress import Progress
from training.runs import search as searching
from training.runs.folder import Run
from training.runs.order import Order
from training.runs.snapshot import Snapshot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRIALS = 5


def test_a_search_survives_its_process_and_trains_with_the_best(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """The trial that died is tried again, as many come to an end as were asked for, the best is published."""
    arguments = options(rows, tiny_base, tmp_path, "--search", str(TRIALS), "--json")
    arguments = [word for word in arguments if word not in {"--rank", "4"}]
    done = train("trial:9", arguments, environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    stopped = the_run(tmp_path)
    done = train("none", ["--resume", str(stopped.path), "--json"], environment)
    assert done.returncode == 0, done.stderr
    from training.runs.search import best_of, ended, open_study
    from training.runs.settings import config_of

    state = stopped.read()
    config = config_of(state.config)
    study = open_study(stopped.path / "study.db", config, pruner="median")
    trials = study.get_trials()
    assert len(ended(study)) == TRIALS
    dead = [trial for trial in trials if not trial.user_attrs.get("ended")]
    assert len(dead) == 1
    assert dead[0].params in [trial.params for trial in ended(study)]
    best = best_of(study)
    assert (config.rank, config.batch_size) == (best.params["rank"], best.params["batch_size"])
    assert config.learning_rate == best.params["learning_rate"]
    manifest = json.loads(done.stdout)["manifest"]
    assert manifest["rank"] == config.rank
    assert manifest["lineage"]["config"]["learning_rate"] == config.learning_rate
    assert (stopped.path / "trials.png").is_file()
    table = (stopped.path / "trials.md").read_text(encoding="utf-8")
    assert table.count("\n") == TRIALS + 2
    assert len(versions(tmp_path)) == 1
    whole(tmp_path)


class Maker:
    """Trains nothing: the third trial dies with its process, and the loss is the learning rate's."""

    tried: list[TrainConfig]

    def __init__(self, job: Job, *_: Any, **__: Any) -> None:
        self._config = job.config

    def train(self) -> None:
        """Note the settings."""
        self.tried.append(self._config)
        if len(self.tried) == 3:
            raise KeyboardInterrupt

    def trained(self) -> Any:
        """Say how it went."""
        return SimpleNamespace(validation_after=self._config.learning_rate)


def test_a_search_goes_on_in_more_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another accumulation the study goes on; a batch size that it does not divide fails as a trial."""
    monkeypatch.setattr(searching, "Maker", Maker)
    monkeypatch.setattr(searching, "attention_layers", lambda _: ())
    monkeypatch.setattr(Maker, "tried", [], raising=False)
    run = Run.create(tmp_path, "fruit")
    row = Example(({"role": "user", "content": "case 1"},), "apple")
    snapshot = Snapshot("examples", Splits((row,) * 200, (row,), (row,)))
    job = Job("fruit", (row,), "base", BaseIdentity(name="b"), Origin("turnout train", "r", "t", "c"), sft())
    order, quiet = Order(name="fruit", search=12), Progress(quiet=True)
    with pytest.raises(KeyboardInterrupt):
        searching.search(run, order, snapshot, job, quiet)
    job = replace(job, config=replace(job.config, accumulation=8))
    assert searching.search(run, order, snapshot, job, quiet).accumulation == 8
    study = searching.open_study(run.path / "study.db", job.config, pruner="median")
    after = [trial for trial in searching.ended(study) if trial.number > 2]
    assert len(searching.ended(study)) == 12
    fits = [trial.params["batch_size"] % 8 == 0 for trial in after]
    assert [trial.state.name == "COMPLETE" for trial in after] == fits
    assert {*fits} == {True, False}
    assert all("--accumulation is 8" in trial.user_attrs["said"] for trial in after if not trial.values)
    run.release()
