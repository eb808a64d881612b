"""What a back-up folder holds: both databases, the blobs, the pepper, and a list of it all with digests."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.backups.databases import BackupFailed, Kind

FORMAT = 1
LIST = "backup.json"
PEPPER = "pepper"
BLOBS = "blobs"
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """One database: its file here, what kind it is of, and the schema of its tables."""

    file: str
    kind: Kind
    schema: str | None


@dataclass(frozen=True, slots=True)
class Contents:
    """The list. `files` has bytes and SHA-256 by name; blobs are listed by digest, which is their proof.

    `missing` are digests of versions that were not retired and whose blobs were not on this machine.
    """

    turnout: str
    at: float
    generation: int
    stores: dict[str, StoreCopy]
    files: dict[str, tuple[int, str]]
    blobs: tuple[str, ...]
    missing: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the list into a folder."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        (folder / LIST).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Contents":
        """Read the list of a folder.

        Raises:
            BackupFailed: it is no back-up, or one in a form that is not known here.
        """
        try:
            found: dict[str, Any] = json.loads((folder / LIST).read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise BackupFailed(f"{folder} was written by a newer Turnout: restore it with that one")
            stores = {name: StoreCopy(**store) for name, store in found.pop("stores").items()}
            files = {name: (int(size), str(digest)) for name, (size, digest) in found.pop("files").items()}
            blobs, missing = tuple(found.pop("blobs")), tuple(found.pop("missing"))
            return cls(stores=stores, files=files, blobs=blobs, missing=missing, **found)
        except FileNotFoundError as error:
            raise BackupFailed(f"{folder} is no back-up of Turnout: it has no {LIST}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupFailed(f"{folder / LIST} can't be read: {type(error).__name__}") from error

    def verify(self, folder: Path) -> None:
        """Compare every file with its digest.

        Raises:
            BackupFailed: one is missing or was changed.
        """
        for name, (size, digest) in self.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size or sha256_of(path) != digest:
                raise BackupFailed(f"{path} is missing or is not what was backed up; use another back-up")


def sha256_of(path: Path) -> str:
    """Return the digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def copy_blob(source: Path, target: Path) -> None:
    """Copy a blob's folder; it is whole at its place or not there. One that is there is left alone."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, copy_function=shutil.copyfile)
    for path in scratch.iterdir():
        path.chmod(0o444)
    scratch.rename(target)
    target.chmod(source.stat().st_mode & 0o777)


def copy_secret(source: Path, target: Path) -> None:
    """Copy a file that only its owner may read."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(source.read_bytes())
