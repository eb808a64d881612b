"""The version that training goes on from."""

from pathlib import Path

import pytest

from adapters.manifest import BaseIdentity, Manifest
from adapters.registry import MANIFEST, digest_of
from tests.adapters.folders import make_adapter
from training.publishing.parents import parent_of
from training.publishing.publish import Fleet, blob_folder, control_url, publish

BASE = BaseIdentity(name="small", digest="sha256:" + "a" * 64)
OTHER = BaseIdentity(name="large", digest="sha256:" + "b" * 64)


def adapter(folder: Path) -> Path:
    """Write an adapter and return its folder."""
    return make_adapter(folder, rank=4, base_model_name_or_path="small")


def fleet(folder: Path) -> Fleet:
    """Return a fleet whose state directory is not there yet."""
    return Fleet(folder / "state", control_url(folder / "state", None), 8)


def test_a_version_of_the_registry_is_found_with_its_digest(tmp_path: Path) -> None:
    """Lineage names the parent by number and by content."""
    where = fleet(tmp_path)
    row, _ = publish("one", adapter(tmp_path / "a"), fleet=where, base=BASE, actor="t")
    found = parent_of("one@1", where, BASE)
    assert found.folder == blob_folder(where, row.digest)
    assert found.name == f"one@1 {row.digest}"


def test_a_folder_will_do(tmp_path: Path) -> None:
    """An adapter from elsewhere can be gone on from too."""
    folder = adapter(tmp_path / "a")
    found = parent_of(str(folder), fleet(tmp_path), BASE)
    assert (found.folder, found.name) == (folder, digest_of(folder))


@pytest.mark.parametrize(
    ("given", "said"),
    [("one@2", "no such version"), ("no such folder", "neither a version"), ("two@1", "no such version")],
)
def test_what_is_not_there_is_said(tmp_path: Path, given: str, said: str) -> None:
    """The message says where to look."""
    where = fleet(tmp_path)
    publish("one", adapter(tmp_path / "a"), fleet=where, base=BASE, actor="t")
    with pytest.raises(ValueError, match=said):
        parent_of(given, where, BASE)


def test_a_fleet_without_versions_is_not_made_by_a_question(tmp_path: Path) -> None:
    """Asking leaves no database behind."""
    with pytest.raises(ValueError, match="no versions yet"):
        parent_of("one@1", fleet(tmp_path), BASE)
    assert not (tmp_path / "state").exists()


def test_files_that_are_gone_or_damaged_are_not_gone_on_from(tmp_path: Path) -> None:
    """What would be trained on must be what the registry says."""
    where = fleet(tmp_path)
    row, _ = publish("one", adapter(tmp_path / "a"), fleet=where, base=BASE, actor="t")
    folder = blob_folder(where, row.digest)
    config = folder / "adapter_config.json"
    config.chmod(0o644)
    config.write_text(config.read_text(encoding="utf-8").replace('"r": 4', '"r": 2'), encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        parent_of("one@1", where, BASE)
    folder.rename(tmp_path / "away")
    with pytest.raises(ValueError, match="not on this machine"):
        parent_of("one@1", where, BASE)


def test_another_base_is_refused(tmp_path: Path) -> None:
    """An adapter means nothing on a base that it was not made on."""
    where = fleet(tmp_path)
    publish("one", adapter(tmp_path / "a"), fleet=where, base=BASE, actor="t")
    with pytest.raises(ValueError, match="was trained on small"):
        parent_of("one@1", where, OTHER)
    folder = adapter(tmp_path / "b")
    made = Manifest(
        name="b",
        digest=digest_of(folder),
        base=BASE,
        rank=4,
        alpha=8,
        target_modules=("q_proj",),
        dtype="float32",
        size_bytes=1,
        source="t",
        created_at=0.0,
    )
    (folder / MANIFEST).write_text(made.model_dump_json(), encoding="utf-8")
    with pytest.raises(ValueError, match="was trained on small"):
        parent_of(str(folder), where, OTHER)
