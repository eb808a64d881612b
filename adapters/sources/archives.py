"""Take an adapter's files out of a tar, and trust nothing that the tar says.

The tar is unpacked to plain bytes first, under a limit of size and of ratio; then its members are looked at
one by one. Only the adapter's own files are written, under names of ours: no path of an archive is ever used.
This runs in a process of its own (`adapters.sources.child`), which ends when it takes too long.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from adapters.inspect import CONFIG, PICKLES
from adapters.sources.layout import WANTED, WEIGHTS
from adapters.sources.names import SourceRefused

BLOCK_BYTES = 1024 * 1024
MAX_RATIO = 200
"""Decompressed to compressed bytes. Weights shrink to a half at best; a bomb grows a thousandfold."""

RATIO_COUNTS_FROM_BYTES = 16 * 1024 * 1024
_HEADROOM_BYTES = 16 * 1024 * 1024
_MAX_READ_BYTES = 4 * 1024 * 1024
_ODD = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def extract(archive: Path, target: Path, *, work: Path, max_bytes: int, max_files: int) -> None:
    """Write the adapter's files in `archive` into the empty folder `target`. `work` is for what is unpacked.

    Raises:
        SourceRefused: it is no tar, holds no adapter or more than one, holds what an adapter has no need of
            (links, devices, paths that climb), or is larger than the limits.
        OSError: a file can't be written.
    """
    plain = _unpacked(archive, work, limit=max_bytes + _HEADROOM_BYTES)
    try:
        with plain.open("rb") as raw, tarfile.open(fileobj=cast("IO[bytes]", _Small(raw)), mode="r:") as tar:
            wanted = _wanted(tar, max_files=max_files)
            for name, member in wanted.items():
                source = tar.extractfile(member)
                if source is None or member.size > max_bytes:
                    raise SourceRefused(_too_large(max_bytes))
                _copy(source, target / name)
    except (tarfile.TarError, EOFError, ValueError, RecursionError, OverflowError, KeyError) as error:
        if isinstance(error, SourceRefused):
            raise
        raise SourceRefused(
            "this is no whole tar archive; make it with `tar -czf adapter.tar.gz -C FOLDER .`"
        ) from error


def _unpacked(archive: Path, work: Path, *, limit: int) -> Path:
    """Return the archive as a plain tar: itself, or its decompressed copy in `work`."""
    with archive.open("rb") as file:
        opener = _opener(file.read(6))
    if opener is None:
        return archive
    compressed = archive.stat().st_size
    plain = work / "plain.tar"
    done = 0
    try:
        with closing(opener(archive)) as source, plain.open("xb") as target:
            while block := source.read(BLOCK_BYTES):
                done += len(block)
                if done > limit:
                    raise SourceRefused(_too_large(limit - _HEADROOM_BYTES))
                if done > RATIO_COUNTS_FROM_BYTES and done > MAX_RATIO * compressed:
                    raise SourceRefused(
                        f"the archive grows more than {MAX_RATIO}-fold when it is unpacked: it is no adapter"
                    )
                target.write(block)
    except _corrupt() as error:
        raise SourceRefused("the archive is truncated or corrupt") from error
    except OSError as error:
        if error.errno is None:  # bz2 says so of corrupt data
            raise SourceRefused("the archive is truncated or corrupt") from error
        raise
    return plain


def _opener(magic: bytes) -> Callable[[Path], BinaryIO] | None:
    if magic.startswith(b"\x1f\x8b"):
        return lambda path: cast("BinaryIO", gzip.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return lambda path: cast("BinaryIO", bz2.open(path, "rb"))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lambda path: cast("BinaryIO", lzma.open(path, "rb"))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _open_zstd
    return None


def _open_zstd(path: Path) -> BinaryIO:
    try:
        import zstandard  # noqa: PLC0415 - an extra that few need
    except ImportError as error:
        raise SourceRefused(
            "a .tar.zst needs the package zstandard on the gateway's machine: pip install "
            "'turnout[zstd]', or "
            "send a .tar.gz"
        ) from error
    return cast("BinaryIO", zstandard.open(path, "rb"))


def _corrupt() -> tuple[type[Exception], ...]:
    """Return what the decompressors raise of data that is cut or changed."""
    known = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
    try:
        import zstandard  # noqa: PLC0415 - as above
    except ImportError:
        return known
    return (*known, zstandard.ZstdError)


def _wanted(tar: tarfile.TarFile, *, max_files: int) -> dict[str, tarfile.TarInfo]:
    """Return the members that are an adapter's files, by name, after a look at every member."""
    found: dict[str, tarfile.TarInfo] = {}
    parents: set[PurePosixPath] = set()
    pickles: list[str] = []
    for count, member in enumerate(tar, 1):
        if count > max_files:
            raise SourceRefused(f"the archive has more than {max_files} entries; pack the adapter alone")
        path = _plain_path(member)
        if path.name in PICKLES:
            pickles.append(path.name)
        if path.name in WANTED and member.isreg():
            if path.name in found:
                raise SourceRefused(f"the archive holds {path.name} twice; pack one adapter")
            found[path.name] = member
            parents.add(path.parent)
    if len(parents) > 1:
        raise SourceRefused("the adapter's files lie in different folders of the archive; pack one adapter")
    if WEIGHTS not in found and pickles:
        raise SourceRefused(
            f"{pickles[0]} is a pickle, which is never opened; save with safe_serialization=True"
        )
    for name in (CONFIG, WEIGHTS):
        if name not in found:
            raise SourceRefused(
                f"the archive has no {name}; pack the folder that PEFT's save_pretrained wrote"
            )
    return found


def _plain_path(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    shown = repr(member.name[:128])
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise SourceRefused(
            f"the archive holds {shown}, a path that leads out of it; nothing was taken from it"
        )
    if member.size < 0 or member.issparse() or not (member.isreg() or member.isdir()):
        odd = _ODD.get(member.type, "an entry that is neither file nor folder")
        odd = "an entry of an impossible size" if member.size < 0 else odd
        raise SourceRefused(
            f"the archive holds {shown}, {odd}; pack plain files (tar --dereference follows links)"
        )
    return path


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("xb") as file:
        while block := source.read(BLOCK_BYTES):
            file.write(block)


def _too_large(max_bytes: int) -> str:
    return (
        f"the source is larger than the limit of {max_bytes} bytes (registry.max_source_bytes); pack the "
        "adapter "
        "alone, or raise it"
    )


class _Small:
    """A file that is never read in large pieces: a header that claims gigabytes gets none of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Read at most a few MiB; a header that asks for more is no header."""
        if not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError("a header asks for too much")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go there."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the present place."""
        return self._file.tell()
