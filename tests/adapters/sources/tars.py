"""Archives for tests, good and bad."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import zstandard

from adapters.inspect import CONFIG, WEIGHTS
from tests.adapters.folders import make_adapter

PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.compress,
}
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    """Return a member of an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(content)
    return member, content


def adapter_entries(folder: Path, *, under: str = "") -> list[Entry]:
    """Return the members of an archive that holds one adapter."""
    make_adapter(folder)
    return [entry(f"{under}{name}", (folder / name).read_bytes()) for name in (CONFIG, WEIGHTS)]


def tar_of(entries: Iterable[Entry], *, style: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a plain tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
