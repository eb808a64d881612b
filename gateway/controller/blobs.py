"""Blobs as engines will read them: verified on this machine, addressed on theirs."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from adapters.collect import collect
from adapters.inspect import CONFIG, WEIGHTS
from adapters.registry import Registry, digest_of
from gateway.store.holds import Holds

_Mark = tuple[tuple[int, int, int], ...]


class Blobs:
    """The blob folder. A verified blob is hashed again only when one of its files changes.

    Engines of other machines read a folder of their own, their `adapter_root`. `mirrors` says where this
    machine sees such a folder; then what they will read is verified too.
    """

    def __init__(self, registry: Registry, *, mirrors: Mapping[str, Path] | None = None) -> None:
        self._registry = registry
        self._mirrors = dict(mirrors or {})
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

    def sees(self, adapter_root: str | None) -> bool:
        """Whether the files that such an engine reads can be verified from here."""
        return adapter_root is None or adapter_root in self._mirrors

    def touched(self, digest: str, adapter_root: str | None) -> bool | None:
        """Whether the files are gone or not those that were verified; None when they never were. Cheap."""
        unknown = False
        for _, folder in self._places(digest, adapter_root):
            known = self._verified.get((digest, str(folder)))
            try:
                mark = _mark(folder)
            except OSError:
                return True
            if known is None:
                unknown = True
            elif mark != known:
                return True
        return None if unknown else False

    async def fault(self, digest: str, adapter_root: str | None) -> str | None:
        """Return what is wrong with the blob's files, or None when their bytes have that digest."""
        for where, folder in self._places(digest, adapter_root):
            fault = await self._fault_in(folder, digest, where)
            if fault is not None:
                return fault
        return None

    def _places(self, digest: str, adapter_root: str | None) -> list[tuple[str, Path]]:
        places = [("the registry", self._registry.path(digest))]
        if adapter_root in self._mirrors:
            mirror = self._mirrors[adapter_root]
            places.append(("the engine's adapter_root", mirror / "blobs" / digest.removeprefix("sha256:")))
        return places

    async def _fault_in(self, folder: Path, digest: str, where: str) -> str | None:
        try:
            mark = _mark(folder)
            if self._verified.get((digest, str(folder))) == mark:
                return None
            whole = await asyncio.to_thread(lambda: digest_of(folder) == digest)
        except FileNotFoundError:
            return f"its files are gone from {where}"
        except (OSError, ValueError) as error:
            return f"its files in {where} can't be read: {type(error).__name__}"
        if not whole:
            return f"its files in {where} do not have its digest any more"
        self._verified[(digest, str(folder))] = mark
        return None


def _mark(folder: Path) -> _Mark:
    states = [(folder / part).stat() for part in (CONFIG, WEIGHTS)]
    return tuple((state.st_size, state.st_mtime_ns, state.st_ino) for state in states)
