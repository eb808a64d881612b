"""Objects of a bucket, whoever stores them: a folder or a tar, within the limit, whatever size was told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from adapters.inspect import CONFIG, WEIGHTS
from adapters.sources import objects
from adapters.sources.names import SourceRefused, parse
from tests.adapters.folders import make_adapter
from tests.adapters.sources.tars import PACK, adapter_entries, tar_of

FOLDER, TAR = "models/team/support", "models/team/support.tar.gz"


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """A bucket in memory. `understates` says nothing of what objects really hold."""

    understates = False
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec keeps it at the class
    cachable = False

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().info(path, **more)
        return {**found, "size": 1} if self.understates and found["type"] == "file" else found


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket with one adapter as a folder and as a tar, and other things beside it."""
    bucket = Bucket()
    source = make_adapter(tmp_path / "source")
    for name in (CONFIG, WEIGHTS):
        bucket.pipe_file(f"{FOLDER}/{name}", (source / name).read_bytes())
    bucket.pipe_file(f"{FOLDER}/optimizer.pt", b"other")
    bucket.pipe_file(TAR, PACK["tar.gz"](tar_of(adapter_entries(tmp_path / "packed"))))
    yield bucket
    bucket.store.clear()


def fetch(bucket: Bucket, text: str, at: Path, *, max_bytes: int = 10_000) -> tuple[bool, list[int]]:
    """Fetch a source; whether it was one object, and the size that was announced."""
    (at / "files").mkdir()
    told: list[int] = []
    packed = objects.fetch(
        parse(text),
        at / "files",
        at / "archive",
        max_bytes=max_bytes,
        expect=told.append,
        filesystem=bucket,
    )
    return packed, told


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_folder_and_a_tar(bucket: Bucket, tmp_path: Path, kind: str) -> None:
    """Of a folder the adapter's own files come, of an object the whole; both say their size before."""
    assert fetch(bucket, f"{kind}://{FOLDER}", tmp_path)[0] is False
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [CONFIG, WEIGHTS]
    assert (tmp_path / "files" / WEIGHTS).read_bytes() == bucket.cat_file(f"{FOLDER}/{WEIGHTS}")
    (tmp_path / "tar").mkdir()
    packed, told = fetch(bucket, f"{kind}://{TAR}", tmp_path / "tar")
    assert (packed, told) == (True, [(tmp_path / "tar" / "archive").stat().st_size])


@pytest.mark.parametrize("understates", [False, True])
@pytest.mark.parametrize("key", [FOLDER, TAR])
@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_what_is_too_large(bucket: Bucket, tmp_path: Path, kind: str, key: str, *, understates: bool) -> None:
    """A source above the limit is refused by what it says, and by what comes if it says less."""
    bucket.understates = understates
    with pytest.raises(SourceRefused, match=f"{kind}://.* is larger than the limit of 100 bytes"):
        fetch(bucket, f"{kind}://{key}", tmp_path, max_bytes=100)
    written = sum(path.stat().st_size for path in tmp_path.glob("files/*"))
    assert written <= 100


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_what_is_not_there(bucket: Bucket, tmp_path: Path, kind: str) -> None:
    """Nothing at all and half an adapter are told apart."""
    with pytest.raises(SourceRefused, match="there is nothing at"):
        fetch(bucket, f"{kind}://models/none", tmp_path)
    bucket.rm_file(f"{FOLDER}/{WEIGHTS}")
    (tmp_path / "half").mkdir()
    with pytest.raises(SourceRefused, match=f"has no {WEIGHTS}"):
        fetch(bucket, f"{kind}://{FOLDER}", tmp_path / "half")
