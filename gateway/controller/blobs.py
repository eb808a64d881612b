"""Blobs as engines will read them: verified on this machine, addressed on theirs."""

import asyncio
from functools import partial
from pathlib import Path

from adapters.collect import collect
from adapters.inspect import CONFIG, WEIGHTS
from adapters.registry import Registry
from gateway.store.holds import Holds

_Mark = tuple[tuple[int, int, int], ...]


class Blobs:
    """The blob folder. A verified blob is hashed again only when one of its files changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._verified: dict[tuple[str, str], _Mark] = {}

    async def collect(self, holds: Holds, *, retention_s: float) -> list[str]:
        """Remove blobs of retired versions that no engine can need; return their digests.

        Raises:
            StoreUnavailable: the store can't be asked.
            OSError: the folder can't be changed.
        """
        work = partial(collect, self._registry.root, holds, retention_s=retention_s, dry_run=False)
        return [blob.digest for blob in await asyncio.to_thread(work) if blob.kept_because is None]

    def path(self, digest: str, adapter_root: str | None) -> str:
        """Return where an engine reads a blob: on this machine, or under its own `adapter_root`."""
        if adapter_root is None:
            return str(self._registry.path(digest))
        return f"{adapter_root.rstrip('/')}/blobs/{digest.removeprefix('sha256:')}"

    def touched(self, digest: str) -> bool | None:
        """Whether the files are gone or not those that were verified; None when they never were. Cheap."""
        folder = self._registry.path(digest)
        known = self._verified.get((digest, str(folder)))
        try:
            mark = _mark(folder)
        except OSError:
            return True
        return None if known is None else mark != known

    async def fault(self, digest: str) -> str | None:
        """Return what is wrong with the blob on this machine, or None when its bytes have that digest."""
        folder = self._registry.path(digest)
        try:
            mark = _mark(folder)
            if self._verified.get((digest, str(folder))) == mark:
                return None
            whole = await asyncio.to_thread(self._registry.verify, digest)
        except FileNotFoundError:
            return "its files are gone from the registry"
        except (OSError, ValueError) as error:
            return f"its files can't be read: {type(error).__name__}"
        if not whole:
            return "its files do not have its digest any more"
        self._verified[(digest, str(folder))] = mark
        return None


def _mark(folder: Path) -> _Mark:
    states = [(folder / part).stat() for part in (CONFIG, WEIGHTS)]
    return tuple((state.st_size, state.st_mtime_ns, state.st_ino) for state in states)
