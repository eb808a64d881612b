"""Blobs as engines will read them: verified on this machine, addressed on theirs."""

import asyncio

from adapters.inspect import WEIGHTS
from adapters.registry import Registry


class Blobs:
    """The blob folder. A verified blob is hashed again only when its weights file changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._verified: dict[tuple[str, str], tuple[int, int, int]] = {}

    def path(self, digest: str, adapter_root: str | None) -> str:
        """Return where an engine reads a blob: on this machine, or under its own `adapter_root`."""
        if adapter_root is None:
            return str(self._registry.path(digest))
        return f"{adapter_root.rstrip('/')}/blobs/{digest.removeprefix('sha256:')}"

    async def fault(self, digest: str) -> str | None:
        """Return what is wrong with the blob on this machine, or None when its bytes have that digest."""
        folder = self._registry.path(digest)
        try:
            state = (folder / WEIGHTS).stat()
            mark = (state.st_size, state.st_mtime_ns, state.st_ino)
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
