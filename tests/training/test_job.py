"""A whole training job on a base of two layers: from rows to a published version."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.base import identify
from adapters.inspect import inspect
from adapters.manifest import Manifest
from adapters.peft_config import read_config
from adapters.registry import digest_of
from gateway.store.control import ControlStore
from gateway.store.database import Database
from training.cli import app
from training.data.parsing import Columns
from training.evaluation.sources import Wanted, take
from training.evaluation.systems import System

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]

QUICK = ("--no-track", "--no-embeddings", "--copies-only")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A hundred rows with two labels."""
    path = tmp_path / "rows.csv"
    lines = [f"{'ab'[number % 2]} {number},{('apple', 'bread')[number % 2]}" for number in range(100)]
    path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have their folders in a cache of the test's own."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))


def arguments(data: Path, base: Path, state: Path, *options: str) -> list[str]:
    """Return the command line that trains `fruit` on these rows."""
    columns = ["--text-column", "text", "--label-column", "label"]
    where = ["--base", str(base), "--base-name", "tiny", "--state-dir", str(state)]
    return ["fruit", str(data), *columns, *where, "--rank", "4", "--epochs", "1", *QUICK, *options]


def train(data: Path, base: Path, state: Path, *options: str) -> object:
    """Run the command line and return what it printed as JSON."""
    done = CliRunner().invoke(app, arguments(data, base, state, "--json", *options))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_file_of_rows_becomes_a_published_version(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """The version is numbered with its evaluation, lineage and reference, and its blob can be served."""
    state = tmp_path / "state"
    printed = train(data, tiny_base, state, "--data-terms", "ours", "--learning-rate", "0.002")
    assert isinstance(printed, dict)
    assert printed["version"] == "fruit@1"
    database = Database(f"sqlite:///{state / 'control.db'}", "control")
    try:
        store = ControlStore(database)
        (row,) = store.versions.rows("fruit")
        (route,) = store.snapshot().routes
    finally:
        database.close()
    manifest = Manifest.model_validate(row.manifest)
    blob = state / "adapters" / "blobs" / row.digest.removeprefix("sha256:")
    assert digest_of(blob) == row.digest
    assert inspect(blob, max_rank=4).base_name == "tiny"
    assert manifest.base == identify(str(tiny_base), "tiny")
    assert route.name == "fruit"
    assert manifest.lineage is not None
    assert manifest.lineage.data_terms == "ours"
    assert manifest.lineage.rows["train"] + manifest.lineage.rows["test"] <= 100
    assert manifest.lineage.packages["peft"]
    wanted = Wanted(str(data), Columns("text", "label"), limit=500, held_out=True, shares={})
    held_out = take(wanted, System("fruit@1", blob, row.digest, manifest))
    assert len(held_out.rows) == manifest.lineage.rows["test"]
    assert len(held_out.train) == manifest.lineage.rows["train"]
    assert held_out.notes == ()
    assert manifest.evaluation is not None
    assert {score.system for score in manifest.evaluation.scores} == {
        "adapter",
        "base",
        "base-lenient",
        "base-constrained",
        "majority",
        "tf-idf",
    }
    assert all(score.low <= score.value <= score.high for score in manifest.evaluation.scores)
    compared = [gap.against for gap in manifest.evaluation.differences if gap.metric == "accuracy"]
    assert sorted(compared) == ["base", "base-constrained", "base-lenient", "majority", "tf-idf"]
    said = {score.metric for score in manifest.evaluation.scores if score.system == "adapter"}
    assert said == {"accuracy", "precision", "recall", "f1", "loss", "perplexity", "ece", "brier"}
    assert manifest.evaluation.note is not None
    assert manifest.reference is not None
    reference = manifest.reference
    assert 4 <= len(reference.probes) <= 6
    assert reference.noise is not None
    assert reference.separation is not None
    assert (reference.predecessor, reference.separation.predecessor) == (None, None)
    for probe in reference.probes:
        assert len(probe.top_logprobs) == len(probe.base or {}) == 20
        assert "fruit" not in probe.prompt
        assert "apple" not in probe.prompt
    assert not list((tmp_path / "state" / "adapters" / "blobs").glob(".tmp-*"))


def test_long_rows_are_left_out_and_counted_and_resampled_ones_judged_again(
    data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """What is longer than the context window is said on the screen and in the figures, and breaks nothing.

    A version whose training rows were resampled is judged by the rows that were held out of it.
    """
    long = [f"a {number} {'b ' * 500},apple" for number in range(100, 130)]
    with data.open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(long))
    done = CliRunner().invoke(app, arguments(data, tiny_base, tmp_path / "state", "--resample", "up"))
    assert done.exit_code == 0, done.output
    assert "training rows are longer than --max-tokens" in done.stderr
    database = Database(f"sqlite:///{tmp_path / 'state' / 'control.db'}", "control")
    try:
        (row,) = ControlStore(database).versions.rows("fruit")
    finally:
        database.close()
    manifest = Manifest.model_validate(row.manifest)
    assert manifest.evaluation is not None
    assert manifest.lineage is not None
    assert "test rows are longer than the context window" in str(manifest.evaluation.note)
    assert manifest.evaluation.rows < manifest.lineage.rows["test"]
    wanted = Wanted(str(data), Columns("text", "label"), limit=500, held_out=True, shares={})
    held_out = take(wanted, System("fruit@1", tmp_path, row.digest, manifest))
    assert len(held_out.rows) == manifest.lineage.rows["test"]


def test_a_target_that_the_base_has_not_is_refused(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """PEFT would train the other layers and say nothing."""
    targets = ("--target-modules", "q_proj,vproj")
    done = CliRunner().invoke(app, arguments(data, tiny_base, tmp_path / "state", *targets))
    assert done.exit_code == 2
    assert "vproj: the base model has no such layer; it has" in done.stderr
    assert "v_proj" in done.stderr


def test_a_successor_is_told_from_its_predecessor(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """The next version of a name has probes that were chosen against the one before, whose answers it keeps.

    Held-out prompts are among the probes only where that was allowed.
    """
    state = tmp_path / "state"
    first = train(data, tiny_base, state, "--learning-rate", "0.002", "--limit", "24")
    options = ("--learning-rate", "0.002", "--limit", "24", "--seed", "9", "--probes-from-data")
    second = train(data, tiny_base, state, *options)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    database = Database(f"sqlite:///{state / 'control.db'}", "control")
    try:
        newest, oldest = ControlStore(database).versions.rows("fruit")
    finally:
        database.close()
    made = Manifest.model_validate(newest.manifest).reference
    assert made is not None
    assert made.predecessor == oldest.digest
    assert made.separation is not None
    assert (made.separation.predecessor or 0.0) > 0.0
    before = [probe.predecessor for probe in made.probes]
    assert all(answer is not None and len(answer) == 20 for answer in before)
    assert before != [probe.top_logprobs for probe in made.probes]


def test_layers_above_the_rank_of_a_version_are_gone_on_with(
    data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """A version of an AdaLoRA's ranks, or of another trainer, ends as a version of its highest rank."""
    from peft import LoraConfig, get_peft_model

    from training.fitting.model import load_base, save_adapter

    shape = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], rank_pattern={"q_proj": 6})
    parent = tmp_path / "parent"
    parent.mkdir()
    save_adapter(
        get_peft_model(load_base(str(tiny_base)).model, shape), parent, base_name="tiny", dtype="float32"
    )
    printed = train(data, tiny_base, tmp_path / "state", "--from", str(parent), "--limit", "24")
    assert isinstance(printed, dict)
    assert printed["version"] == "fruit@1"
    (made,) = (tmp_path / "state" / "adapters" / "blobs").iterdir()
    assert read_config(made).ranks == {"q_proj": 6}
    assert read_config(made).highest_rank == 6


def test_the_same_command_gives_the_same_adapter(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Training again from the same rows and seed gives the same digest, kept where `--out` says."""
    for name in ("one", "two"):
        train(data, tiny_base, tmp_path, "--no-publish", "--out", str(tmp_path / name), "--limit", "16")
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    assert not (tmp_path / "control.db").exists()
    assert Manifest.model_validate_json((tmp_path / "one" / "manifest.json").read_text(encoding="utf-8"))


def test_nothing_is_published_when_training_fails(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Rows that are all too long are an error of the data, and leave neither folder nor version."""
    done = CliRunner().invoke(
        app,
        arguments(data, tiny_base, tmp_path / "s", "--max-tokens", "8", "--out", str(tmp_path / "out")),
    )
    assert done.exit_code == 2
    assert "every row is longer than --max-tokens 8" in done.stderr
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".tmp-*"))
