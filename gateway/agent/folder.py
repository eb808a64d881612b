"""The blob folder beside one engine: whole blobs under `blobs/`, pieces of coming ones under `incoming/`.

Only whole, verified, read-only folders are ever renamed into `blobs/`. What a crash leaves is a piece that
the next fetch goes on with, or a folder that was on its way out, which the next start removes.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adapters.bucket import PARTS
from adapters.registry import digest_of

HEX_DIGITS = 64
_GONE = ".gone-"
_Stamp = tuple[tuple[int, int, int], ...]


class BlobFolder:
    """Blobs by name, which is their digest in hexadecimal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._verified: dict[str, _Stamp] = {}

    def open(self) -> None:
        """Make the folders, and remove what was on its way out when a process ended.

        Raises:
            OSError: they can't be made.
        """
        for folder in (self._blobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        for gone in self._blobs.glob(f"{_GONE}*"):
            shutil.rmtree(gone, ignore_errors=True)

    def names(self) -> list[str]:
        """Return the names of what is in place."""
        return sorted(place.name for place in self._blobs.iterdir() if is_name(place.name))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of what is in place, by name."""
        return {name: _bytes_in(self._blobs / name) for name in self.names()}

    def known_whole(self, name: str) -> bool:
        """Whether a blob is in place and nothing of it has changed since it was verified. Cheap."""
        known = self._verified.get(name)
        try:
            return known is not None and _stamp(self._blobs / name) == known
        except OSError:
            return False

    def verify(self, name: str) -> bool:
        """Whether the bytes in place have their digest. Reads all of them."""
        place = self._blobs / name
        try:
            stamp = _stamp(place)
            whole = digest_of(place) == f"sha256:{name}"
        except (OSError, ValueError):
            return False
        if whole:
            self._verified[name] = stamp
        return whole

    def pieces(self, name: str) -> Path:
        """Return the folder where a blob's pieces are gathered."""
        folder = self._incoming / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def gathered_bytes(self, name: str) -> int:
        """Return how much of a blob has come."""
        return _bytes_in(self._incoming / name)

    def discard(self, name: str) -> None:
        """Remove a blob's pieces."""
        shutil.rmtree(self._incoming / name, ignore_errors=True)

    def discard_others(self, keep: set[str]) -> None:
        """Remove the pieces of every blob but these."""
        for folder in self._incoming.iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def place(self, name: str) -> bool:
        """Put gathered pieces into place when they have their digest; whether they have. Others are removed.

        Raises:
            OSError: the disk refuses.
        """
        pieces, place = self._incoming / name, self._blobs / name
        try:
            whole = digest_of(pieces) == f"sha256:{name}"
        except ValueError:
            whole = False
        if not whole:
            self.discard(name)
            return False
        for part in PARTS:
            (pieces / part).chmod(0o444)
            _sync(pieces / part)
        if place.is_dir():
            # Whole files in the place of damaged ones, each in one step: an engine may be reading them.
            for part in PARTS:
                (pieces / part).replace(place / part)
            _sync(place)
            self.discard(name)
        else:
            pieces.chmod(0o755)
            _sync(pieces)
            pieces.rename(place)
        _sync(self._blobs)
        self._verified[name] = _stamp(place)
        return True

    def remove(self, name: str) -> None:
        """Remove a blob in place, in one step for whoever looks.

        Raises:
            OSError: it can't be moved away.
        """
        self._verified.pop(name, None)
        aside = self._blobs / f"{_GONE}{name}"
        shutil.rmtree(aside, ignore_errors=True)
        (self._blobs / name).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def free_bytes(self) -> int:
        """Return the room on the disk."""
        return shutil.disk_usage(self.root).free


def is_name(text: str) -> bool:
    """Whether a text is a digest in hexadecimal."""
    return len(text) == HEX_DIGITS and set(text) <= set("0123456789abcdef")


def _stamp(place: Path) -> _Stamp:
    states = [(place / part).stat() for part in PARTS]
    return tuple((state.st_size, state.st_mtime_ns, state.st_ino) for state in states)


def _bytes_in(folder: Path) -> int:
    return sum(size for size in _file_sizes(folder))


def _file_sizes(folder: Path) -> Iterator[int]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        try:
            yield path.stat().st_size
        except FileNotFoundError:  # moved away meanwhile
            continue


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
