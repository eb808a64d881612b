"""Where the base model lies, and what its bytes are."""

import json
from pathlib import Path

import pytest

from adapters.base import DEFAULT, IDENTITY, BaseMissing, cache_dir, digest_of_model, folder_of, identify
from adapters.manifest import BaseIdentity


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a base model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 4}', encoding="utf-8")
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TURNOUT_CACHE, else the user's cache folder by XDG_CACHE_HOME, else ~/.cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TURNOUT_CACHE", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "turnout"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_dir() == tmp_path / "x" / "turnout"
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "t"))
    assert cache_dir() == tmp_path / "t"
    assert folder_of(DEFAULT) == tmp_path / "t" / "models" / DEFAULT


def test_where_a_model_lies(model: Path) -> None:
    """A folder is itself; anything else is a hub's id, which the engine resolves."""
    assert folder_of(str(model)) == model
    assert folder_of("organisation/name") is None
    assert identify("organisation/name", "name") == BaseIdentity(name="name", digest=None)


def test_the_digest_is_kept(model: Path) -> None:
    """The digest is computed once and then read from beside the weights."""
    first = identify(str(model), "mine")
    assert first == BaseIdentity(name="mine", digest=digest_of_model(model))
    assert json.loads((model / IDENTITY).read_text(encoding="utf-8")) == {"digest": first.digest}
    (model / IDENTITY).write_text('{"digest": "sha256:kept"}', encoding="utf-8")
    assert identify(str(model), "mine").digest == "sha256:kept"
    assert len(list(model.iterdir())) == 4


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("config.json", True),
        ("tokenizer.json", True),
        ("model.safetensors", True),
        ("model-2.safetensors", True),
        ("README.md", False),
        ("generation_config.json", False),
    ],
)
def test_what_the_digest_covers(model: Path, name: str, counts: bool) -> None:
    """Config, tokenizer and all weights count; notes beside them do not."""
    before = digest_of_model(model)
    (model / name).write_text('{"changed": true}', encoding="utf-8")
    assert (digest_of_model(model) != before) is counts


def test_what_a_library_notes_of_itself_does_not_count(model: Path) -> None:
    """The same model saved by another release, elsewhere, or with other spacing keeps its digest."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    before = digest_of_model(model)
    noted = {"transformers_version": "9.9", "_name_or_path": "/elsewhere", **config}
    (model / "config.json").write_text(json.dumps(noted, indent=4), encoding="utf-8")
    assert digest_of_model(model) == before


def test_the_names_of_files_count(model: Path) -> None:
    """The same bytes in a file of another name are another model."""
    before = digest_of_model(model)
    (model / "model.safetensors").rename(model / "other.safetensors")
    assert digest_of_model(model) != before


def test_a_model_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model that was not prepared, and a folder without a model, say how to get one."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path))
    for name in (DEFAULT, str(tmp_path)):
        with pytest.raises(BaseMissing, match="prepare it with"):
            identify(name, "mine")
