"""Blobs as engines will read them: verified here or by an agent beside them, addressed on theirs."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.collect import collect
from adapters.inspect import CONFIG, WEIGHTS
from adapters.registry import Registry, digest_of
from gateway.store.holds import Holds

if TYPE_CHECKING:  # workers need paths alone, and not the client that agents are called with
    from gateway.controller.agents import Agents

_Mark = tuple[tuple[int, int, int], ...]


class Blobs:
    """The blob folder. A verified blob is hashed again only when one of its files changes.

    Engines of other machines read a folder of their own, their `adapter_root`. `mirrors` says where this
    machine sees such a folder; then what they will read is verified too.
    """

    def __init__(
        self, registry: Registry, *, mirrors: Mapping[str, Path] | None = None, agents: "Agents | None" = None
    ) -> None:
        self._registry = registry
        self._agents = agents
        self._mirrors = dict(mirrors or {})
        self._verified: dict[tuple[str, str], _Mark] = {}

    def of(self, engine_url: str, adapter_root: str | None, *, permit: Callable[[], None]) -> "ReplicaBlobs":
        """Return the blobs as one replica has them; `permit` raises LeaseLost before an agent is called."""
        if self._agents is None or adapter_root is None:
            return ReplicaBlobs(self, adapter_root)
        return SyncedBlobs(self, adapter_root, agents=self._agents, engine_url=engine_url, permit=permit)

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


class ReplicaBlobs:
    """The blobs of one replica, whose files this machine sees, or must believe in."""

    def __init__(self, blobs: Blobs, adapter_root: str | None) -> None:
        self._blobs = blobs
        self._root = adapter_root

    @property
    def verified(self) -> bool:
        """Whether the files that the engine reads are verified before it gets to read them."""
        return self._blobs.sees(self._root)

    def path(self, digest: str) -> str:
        """Return where the engine reads a blob."""
        return self._blobs.path(digest, self._root)

    def touched(self, digest: str) -> bool | None:
        """Whether the files are gone or not those that were verified; None when they never were. Cheap."""
        return self._blobs.touched(digest, self._root)

    async def fault(self, digest: str, incarnation: str) -> str | None:  # noqa: ARG002 - an agent keeps it for that
        """Return what is wrong with the blob's files, or None when their bytes have that digest.

        Raises:
            BlobUnderWay: they are not there yet.
        """
        return await self._blobs.fault(digest, self._root)


class SyncedBlobs(ReplicaBlobs):
    """The blobs of a replica with an agent: it brings them, verifies them, and lets nobody else write there.

    What happens to them afterwards shows at the next proof, when the agent looks again.
    """

    def __init__(
        self,
        blobs: Blobs,
        adapter_root: str,
        *,
        agents: "Agents",
        engine_url: str,
        permit: Callable[[], None],
    ) -> None:
        super().__init__(blobs, adapter_root)
        self._agents = agents
        self._engine_url = engine_url
        self._permit = permit

    @property
    def verified(self) -> bool:
        """The agent verifies them."""
        return True

    def touched(self, digest: str) -> bool | None:  # noqa: ARG002 - as the base class has it
        """Nothing shows from here."""
        return False

    async def fault(self, digest: str, incarnation: str) -> str | None:
        """Ask the agent, which keeps the blob for this incarnation from now on."""
        return await self._agents.fault(self._engine_url, digest, incarnation, permit=self._permit)


def _mark(folder: Path) -> _Mark:
    states = [(folder / part).stat() for part in (CONFIG, WEIGHTS)]
    return tuple((state.st_size, state.st_mtime_ns, state.st_ino) for state in states)
