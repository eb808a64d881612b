"""Searches: trials that are compared, given up and, after a death, gone on with."""

import json
import signal
from pathlib import Path

import pytest

from tests.training.runs.conftest import Train
from tests.training.runs.test_crashes import options, the_run, versions, whole

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
