"""Removes the blobs of retired versions, once no engine can need them. Several may run at once.

A blob is first moved aside, then judged, and only then removed or moved back: a version that is added again
meanwhile finds that it is gone and stores it anew (`Registry.add` looks again after the version is numbered).
What a crash leaves aside is judged again by the next run.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.store.holds import Holds

RETENTION_S = 86_400.0
"""How long the blob of a retired version is kept at least. Adding it again brings it back at any time."""

ASIDE = ".gone-"
_HEX_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob as a run found it. `kept_because` is None for what was removed, or would be in a dry run."""

    digest: str
    size_bytes: int
    kept_because: str | None


def collect(root: Path, holds: Holds, *, retention_s: float = RETENTION_S, dry_run: bool) -> list[Blob]:
    """Remove what nobody may need from the blob folder of a registry; return every blob with its fate.

    Raises:
        StoreUnavailable: the store can't say whether a blob is needed; nothing more is removed.
        OSError: the folder can't be read or changed.
    """
    if not dry_run:
        holds.forget()
    found = []
    for place in sorted(_blobs(root / "blobs")):
        digest = f"sha256:{place.name.removeprefix(ASIDE)}"
        try:
            size_bytes = sum(part.stat().st_size for part in place.iterdir())
            young = time.time() - place.stat().st_mtime < retention_s
            # A blob without a version is one that is just being added, or whose adding was cut short.
            reason = holds.claim(digest, retired_for_s=retention_s) or ("it is new" if young else None)
            if not dry_run and (reason is None or place.name.startswith(ASIDE)):
                reason = _remove(place, digest, holds, retention_s=retention_s)
        except FileNotFoundError:  # another run was quicker
            continue
        found.append(Blob(digest, size_bytes, reason))
    return found


def _remove(place: Path, digest: str, holds: Holds, *, retention_s: float) -> str | None:
    """Remove one blob unless it is claimed after all; return by what."""
    home = place.with_name(place.name.removeprefix(ASIDE))
    aside = place.with_name(ASIDE + home.name)
    if place != aside:
        if aside.exists():  # left by a crash; the one in place is as good
            shutil.rmtree(aside)
        place.rename(aside)
    try:
        reason = holds.claim(digest, retired_for_s=retention_s)
    except BaseException:
        _put_back(aside, home)
        raise
    if reason is not None:
        _put_back(aside, home)
        return reason
    shutil.rmtree(aside)
    return None


def _put_back(aside: Path, home: Path) -> None:
    with suppress(OSError):  # it was stored anew meanwhile
        aside.rename(home)
        return
    shutil.rmtree(aside, ignore_errors=True)


def _blobs(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for place in folder.iterdir():
        name = place.name.removeprefix(ASIDE)
        if len(name) == _HEX_DIGITS and set(name) <= set("0123456789abcdef"):
            yield place
