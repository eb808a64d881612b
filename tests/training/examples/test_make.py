"""Making the example adapters, without training them; and the ones that are in the library."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from adapters.answers import STRONG
from adapters.base import DEFAULT
from adapters.inspect import inspect
from adapters.manifest import BaseIdentity, Evaluation, Manifest
from adapters.registry import MANIFEST, digest_of
from training.data.rows import Example
from training.data.splits import Shares
from training.examples import make as examples
from training.examples.card import card
from training.examples.make import LIBRARY, app
from training.examples.recipes import RECIPES, Recipe
from training.job import AS_THEY_ARE
from training.progress import Progress
from training.publishing.lineage import fingerprint

MAX_BYTES = 5_000_000


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Example making that writes the recipe's name, and fails for `sarcasm` half-way."""

    def make(recipe: Recipe, folder: Path, _progress: Progress) -> Manifest:
        folder.mkdir()
        (folder / "made").write_text(recipe.name, encoding="utf-8")
        if recipe.name == "sarcasm":
            raise ValueError("the rows are gone")
        return Manifest.model_construct(size_bytes=1)

    monkeypatch.setattr(examples, "make_example", make)
    monkeypatch.setattr(examples, "prepare_default", lambda _step: None)


@pytest.mark.usefixtures("quick")
def test_a_new_example_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """Nothing of the old folder and no scratch folder is left."""
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "old").touch()
    done = CliRunner().invoke(app, ["sentiment", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sentiment"]
    assert [path.name for path in (tmp_path / "sentiment").iterdir()] == ["made"]


@pytest.mark.usefixtures("quick")
def test_an_example_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """The library never holds half an adapter."""
    (tmp_path / "sarcasm").mkdir()
    (tmp_path / "sarcasm" / "old").touch()
    done = CliRunner().invoke(app, ["sarcasm", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "the rows are gone" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sarcasm"]
    assert [path.name for path in (tmp_path / "sarcasm").iterdir()] == ["old"]


def test_an_unknown_example_is_bad_usage(tmp_path: Path) -> None:
    """The message names the ones there are."""
    done = CliRunner().invoke(app, ["nonsense", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "sentiment" in done.stderr


def judge_again(folder: Path, monkeypatch: pytest.MonkeyPatch, **split: object) -> Result:
    """Judge a copy of an example whose lineage records this split, with 40 rows of its own and no model."""
    rows = [Example(({"role": "user", "content": f"row {number}"},), "positive") for number in range(400)]
    recipe = replace(RECIPES["sentiment"], load=lambda: rows, shares=Shares(max_train=100, max_test=60))
    monkeypatch.setitem(RECIPES, "sentiment", recipe)
    monkeypatch.setattr(examples, "prepare_default", lambda _step: None)
    monkeypatch.setattr(examples, "identify", lambda *_: BaseIdentity(name=DEFAULT))
    monkeypatch.setattr(examples, "embedded", lambda rows: np.eye(len(rows), 4) + 1.0)
    found = Evaluation(rows=40, scores=())
    monkeypatch.setattr(
        "training.examples.make.Maker.judge", lambda maker: found if maker.adapter.is_dir() else None
    )
    shutil.copytree(LIBRARY / "sentiment", folder / "sentiment")
    place = folder / "sentiment" / MANIFEST
    manifest = Manifest.model_validate_json(place.read_text(encoding="utf-8"))
    assert manifest.lineage is not None
    config = {**manifest.lineage.config, "split": {**asdict(recipe.shares), **AS_THEY_ARE, **split}}
    lineage = manifest.lineage.model_copy(update={"config": config, "data_fingerprint": fingerprint(rows)})
    place.write_text(manifest.model_copy(update={"lineage": lineage}).model_dump_json(), encoding="utf-8")
    return CliRunner().invoke(app, ["sentiment", "--judge-only", "--out", str(folder)])


def test_an_example_is_judged_again_and_keeps_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures and card are new, also on more held-out rows than before; weights and proofs stay."""
    done = judge_again(tmp_path, monkeypatch, max_test=9)
    assert done.exit_code == 0, done.output
    old, new = (
        Manifest.model_validate_json((folder / "sentiment" / MANIFEST).read_text(encoding="utf-8"))
        for folder in (LIBRARY, tmp_path)
    )
    assert (new.digest, new.reference) == (old.digest, old.reference)
    assert new.evaluation is not None
    assert new.evaluation.rows == 40
    assert "40 held-out rows" in (tmp_path / "sentiment" / "README.md").read_text(encoding="utf-8")


def test_an_example_is_not_judged_on_rows_that_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that holds other rows back than the one it was made by refuses."""
    done = judge_again(tmp_path, monkeypatch, test=0.05)
    assert done.exit_code == 2
    assert "make it again" in done.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_the_library_holds_what_its_manifests_say(name: str) -> None:
    """Every example is there with matching bytes, card, figures and probes, small, and names no path."""
    folder = LIBRARY / name
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    facts = inspect(folder, max_rank=8)
    assert (manifest.name, manifest.version, manifest.base.name) == (name, None, DEFAULT)
    assert manifest.digest == digest_of(folder)
    assert facts.base_name == DEFAULT
    assert facts.dtype == "bfloat16"
    assert facts.size_bytes == manifest.size_bytes < MAX_BYTES
    assert (folder / "README.md").read_text(encoding="utf-8") == card(RECIPES[name], manifest)
    assert manifest.evaluation is not None
    assert manifest.evaluation.rows >= 500
    assert manifest.reference is not None
    assert 4 <= len(manifest.reference.probes) <= 6
    assert manifest.reference.separation is not None
    assert manifest.reference.separation.base >= STRONG
    assert str(Path.home()) not in (folder / MANIFEST).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_an_example_beats_its_base_beyond_doubt(name: str) -> None:
    """The interval of the difference to every kind of base lies above nothing, for the first metric.

    A plain classifier is no base: the card says how it does.
    """
    text = (LIBRARY / name / MANIFEST).read_text(encoding="utf-8")
    judged = Manifest.model_validate_json(text).evaluation
    assert judged is not None
    first = judged.scores[0].metric
    gaps = [gap for gap in judged.differences if gap.metric == first and gap.against != "tf-idf"]
    assert gaps
    assert all(gap.low > 0 for gap in gaps)
