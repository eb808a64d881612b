"""Adding is atomic, content is addressed by its digest, and blobs never change."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters import registry as registry_module
from adapters.inspect import CONFIG, WEIGHTS, UnservableAdapter
from adapters.manifest import BaseIdentity, Evaluation, Lineage, Manifest
from adapters.registry import MANIFEST, Registry, digest_of
from gateway.core.refs import VersionRef
from gateway.store import schema
from gateway.store.database import Database
from gateway.store.versions import Versions
from tests.adapters.folders import BASE_NAME, MODULE, make_adapter, safetensors

BASE = BaseIdentity(name=BASE_NAME, digest="sha256:" + "1" * 64)


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    """An empty store of versions."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control")
    with database.write() as connection:
        schema.control.create_all(connection)
    yield Versions(database)
    database.close()


@pytest.fixture
def registry(tmp_path: Path, versions: Versions) -> Registry:
    """A registry without a version."""
    return Registry(tmp_path / "adapters", versions, base=BASE, max_rank=16)


def blobs(registry: Registry) -> list[str]:
    """Return the names of every blob and of everything on its way there."""
    roots = (registry.root / "blobs", registry.root / "incoming")
    return sorted(path.name for root in roots if root.is_dir() for path in root.iterdir())


def test_adding(registry: Registry, tmp_path: Path) -> None:
    """A version has its manifest in the store and its files, read-only, at a path that is their digest."""
    source = make_adapter(tmp_path / "a", rank=8)
    row, new = registry.add("support", source, actor="me", why="first")
    assert (row.ref, new) == (VersionRef("support", 1), True)
    manifest = Manifest.model_validate(row.manifest)
    assert (manifest.name, manifest.version, manifest.digest) == ("support", 1, row.digest)
    assert (manifest.rank, manifest.base, manifest.source) == (8, BASE, str(source))
    blob = registry.path(row.digest)
    assert blob.name == row.digest.removeprefix("sha256:")
    assert sorted(path.name for path in blob.iterdir()) == [CONFIG, WEIGHTS]
    assert all(path.stat().st_mode & 0o222 == 0 for path in blob.iterdir())
    assert (blob / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert registry.verify(row.digest)


def test_the_same_content_twice(registry: Registry, tmp_path: Path) -> None:
    """The same files are one blob: one version under one name, and a version each under two names."""
    source = make_adapter(tmp_path / "a")
    first, _ = registry.add("support", source, actor="me")
    again, new = registry.add("support", source, actor="me")
    other, other_new = registry.add("sales", source, actor="me")
    assert (again.ref, new) == (first.ref, False)
    assert (other.ref, other_new) == (VersionRef("sales", 1), True)
    assert blobs(registry) == [first.digest.removeprefix("sha256:")]


def test_what_is_content(tmp_path: Path) -> None:
    """Where the base lay and how the config is laid out are no content; rank, alpha and weights are."""
    plain = digest_of(make_adapter(tmp_path / "a"))
    assert digest_of(make_adapter(tmp_path / "b", base_model_name_or_path="/elsewhere")) == plain
    config = json.loads((tmp_path / "a" / CONFIG).read_text(encoding="utf-8"))
    (tmp_path / "a" / CONFIG).write_text(
        json.dumps(dict(reversed(config.items())), indent=4), encoding="utf-8"
    )
    assert digest_of(tmp_path / "a") == plain
    others = {
        digest_of(make_adapter(tmp_path / "c", seed=1)),
        digest_of(make_adapter(tmp_path / "d", lora_alpha=9)),
        digest_of(make_adapter(tmp_path / "e", rank=8)),
    }
    assert len(others | {plain}) == 4


def test_verifying(registry: Registry, tmp_path: Path) -> None:
    """A changed or missing file, and a missing blob, are found."""
    row, _ = registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    assert registry.verify(row.digest)
    weights = registry.path(row.digest) / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert not registry.verify(row.digest)
    shutil.rmtree(registry.path(row.digest))
    assert not registry.verify(row.digest)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "reserved": ("base", {}, "'base' is taken"),
    "upper case": ("Support", {}, "can't name an adapter"),
    "a path": ("../support", {}, "can't name an adapter"),
    "too long": ("a" * 65, {}, "can't name an adapter"),
    "the base model's name in lower case": (BASE_NAME.lower(), {}, "the base model's own name"),
    "rank": ("support", {"rank": 32}, "above the fleet's maximum"),
    "another base": ("support", {"base_model_name_or_path": "meta/Other-7B"}, "'meta/Other-7B'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(registry: Registry, versions: Versions, tmp_path: Path, case: str) -> None:
    """What can't be served leaves neither a blob nor a version."""
    name, changes, words = REFUSED[case]
    with pytest.raises(UnservableAdapter) as caught:
        registry.add(name, make_adapter(tmp_path / "a", **changes), actor="me")
    assert words in str(caught.value)
    assert (blobs(registry), versions.rows()) == ([], [])


def test_the_base_models_name_is_taken(versions: Versions, tmp_path: Path) -> None:
    """An adapter can't have the name that clients use for the base model."""
    registry = Registry(tmp_path / "adapters", versions, base=BaseIdentity(name="tiny"), max_rank=16)
    source = make_adapter(tmp_path / "a", base_model_name_or_path="tiny")
    with pytest.raises(UnservableAdapter, match="as is the base model's own name"):
        registry.add("tiny", source, actor="me")
    assert registry.add("small", source, actor="me")[1]


def test_an_adapter_above_the_limit(versions: Versions, tmp_path: Path) -> None:
    """Weights above the limit are refused before they are copied."""
    registry = Registry(tmp_path / "adapters", versions, base=BASE, max_rank=16, max_bytes=100)
    with pytest.raises(UnservableAdapter, match=r"above the limit of 100 \(registry\.max_source_bytes\)"):
        registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    assert blobs(registry) == []


def test_an_adapter_of_another_size(versions: Versions, tmp_path: Path) -> None:
    """With the base model's folder an adapter must fit its layers; without it nobody knows."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(safetensors({f"{MODULE}.weight": ("BF16", [8, 16])}))
    registry = Registry(tmp_path / "adapters", versions, base=BASE, max_rank=16, base_folder=base)
    with pytest.raises(UnservableAdapter, match="takes 16 features and gives 8"):
        registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    shutil.rmtree(base)
    assert registry.add("support", make_adapter(tmp_path / "a"), actor="me")[1]


def test_a_blob_that_is_removed_before_the_number(
    registry: Registry, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob of a retired version that is swept away while it is added again is stored again."""
    source = make_adapter(tmp_path / "a")
    row, _ = registry.add("support", source, actor="me")
    real = versions.add

    def swept(*args: Any, **more: Any) -> Any:
        shutil.rmtree(registry.path(row.digest))
        return real(*args, **more)

    monkeypatch.setattr(versions, "add", swept)
    registry.add("support", source, actor="me")
    assert registry.verify(row.digest)


def trained(folder: Path, **changes: Any) -> Path:
    """Write an adapter with the manifest that training leaves beside it."""
    make_adapter(folder)
    manifest = Manifest(
        name="x",
        digest=digest_of(folder),
        base=BASE,
        rank=4,
        alpha=8.0,
        target_modules=(),
        dtype="bfloat16",
        size_bytes=1,
        source="x",
        created_at=1.0,
        lineage=Lineage(
            recipe="r",
            data_source="s",
            data_terms="t",
            data_fingerprint="f",
            rows={"train": 1},
            config={},
            command="c",
            code_version="v",
        ),
        evaluation=Evaluation(rows=3),
    )
    text = manifest.model_copy(update=changes).model_dump_json()
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def test_what_training_left_is_kept(registry: Registry, tmp_path: Path) -> None:
    """The folder's own lineage and evaluation are kept, unless they are given; the rest is ours."""
    row, _ = registry.add("support", trained(tmp_path / "a"), actor="me", evaluation=Evaluation(rows=9))
    manifest = Manifest.model_validate(row.manifest)
    assert manifest.lineage is not None
    assert manifest.lineage.recipe == "r"
    assert manifest.evaluation == Evaluation(rows=9)
    assert (manifest.name, manifest.digest) == ("support", row.digest)


def test_the_manifests_base_decides(registry: Registry, tmp_path: Path) -> None:
    """An adapter that was trained on other weights is refused, whatever the name; a bad manifest too."""
    other = BaseIdentity(name=BASE_NAME, digest="sha256:" + "2" * 64)
    with pytest.raises(UnservableAdapter, match="this fleet serves"):
        registry.add("support", trained(tmp_path / "a", base=other), actor="me")
    unknown = BaseIdentity(name="renamed")
    assert registry.add("support", trained(tmp_path / "b", base=unknown), actor="me")[1]
    (tmp_path / "b" / MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(UnservableAdapter, match="not a valid manifest"):
        registry.add("support", tmp_path / "b", actor="me")


def test_a_manifest_of_other_weights_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Lineage, evaluation and reference of other weights never stick to these."""
    with pytest.raises(UnservableAdapter, match="describes other weights"):
        registry.add("support", trained(tmp_path / "a", digest="sha256:" + "0" * 64), actor="me")


def test_a_manifest_above_the_limit(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest beside the weights is not read either when it is too large; nothing is left."""
    source = trained(tmp_path / "a")
    monkeypatch.setattr(registry_module, "MAX_MANIFEST_BYTES", (source / MANIFEST).stat().st_size - 1)
    with pytest.raises(UnservableAdapter, match=r"manifest\.json is over \d+ bytes"):
        registry.add("support", source, actor="me")
    assert blobs(registry) == []


def test_a_version_is_on_the_disk_before_it_has_a_number(
    registry: Registry, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, their folder and its new place are synced in that order: a power cut takes all or nothing."""
    steps: list[str] = []
    sync, rename, number = registry_module._sync, Path.rename, versions.add

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"{path.parent.name} to {target.parent.name}")
        return rename(path, target)

    def numbered(*args: Any, **more: Any) -> Any:
        steps.append("number")
        return number(*args, **more)

    def synced(path: Path) -> None:
        steps.append(path.parent.name if path.parent.name == "incoming" else path.name)
        sync(path)

    monkeypatch.setattr(registry_module, "_sync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(versions, "add", numbered)
    registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    assert steps == [CONFIG, WEIGHTS, "incoming", "incoming to blobs", "blobs", "number"]


def test_a_damaged_blob_is_mended(registry: Registry, tmp_path: Path) -> None:
    """Adding the content again puts whole files where damaged ones lay."""
    source = make_adapter(tmp_path / "a")
    row, _ = registry.add("support", source, actor="me")
    weights = registry.path(row.digest) / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert not registry.verify(row.digest)
    again, new = registry.add("support", source, actor="me")
    assert (again.ref, new) == (row.ref, False)
    assert registry.verify(row.digest)


def test_scratch_of_a_crash_is_swept(registry: Registry, tmp_path: Path) -> None:
    """What a crash left a day ago is removed by the next add; what another add is writing now stays."""
    for name in ("an-old-one", "a-new-one"):
        (registry.root / "incoming" / name).mkdir(parents=True)
    os.utime(registry.root / "incoming" / "an-old-one", (1.0, 1.0))
    row, _ = registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    assert set(blobs(registry)) == {"a-new-one", row.digest.removeprefix("sha256:")}


def test_a_folder_that_changes_while_it_is_read(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that were replaced between the look and the copy are refused and leave nothing."""
    source = make_adapter(tmp_path / "a")
    real = shutil.copyfile

    def replaced(origin: Path, target: Path) -> None:
        make_adapter(source, seed=1)
        real(origin, target)

    monkeypatch.setattr(registry_module.shutil, "copyfile", replaced)
    with pytest.raises(UnservableAdapter, match="changed while it was read"):
        registry.add("support", source, actor="me")
    assert blobs(registry) == []


def test_concurrent_adds(registry: Registry, versions: Versions, tmp_path: Path) -> None:
    """One content added by eight at once is one version and one blob; eight contents are eight of each."""
    source = make_adapter(tmp_path / "same")
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: registry.add("support", source, actor="me"), range(8)))
        folders = [make_adapter(tmp_path / f"{n}", seed=n + 1) for n in range(8)]
        each = list(pool.map(lambda folder: registry.add("sales", folder, actor="me"), folders))
    assert {row.ref for row, _ in same} == {VersionRef("support", 1)}
    assert [new for _, new in same].count(True) == 1
    assert sorted(row.ref.version for row, _ in each) == list(range(1, 9))
    assert len(blobs(registry)) == 9
    assert all(registry.verify(row.digest) for row in versions.rows())


def test_a_disk_that_is_full(
    registry: Registry, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that can't be written is an OSError and leaves neither scratch nor version."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry_module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        registry.add("support", make_adapter(tmp_path / "a"), actor="me")
    assert (blobs(registry), versions.rows()) == ([], [])
