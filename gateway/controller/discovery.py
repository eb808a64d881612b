"""Which replicas there are: the engines that the settings name, and the addresses behind a DNS name.

A name is looked up over and over. Each of its addresses is a replica with an id that stays the same. An
address that is gone leaves in two steps: first nothing new is placed there and what had its home there gets
another one, while it goes on serving; after `LEAVE_S` it is taken out, and requests in flight there finish. A
lookup that fails or finds nothing changes nothing: a resolver that blinks must not empty the fleet.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.store.fleet import Fleet

log = logging.getLogger(__name__)

DNS = "dns+"
"""What the URL of a name with several addresses begins with: `dns+http://engines.internal:8000`."""

LOOK_EVERY_S = 5.0
LOOKUP_TIMEOUT_S = 5.0
LEAVE_S = 15.0

Replicas = dict[str, tuple[str, str | None]]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines as the settings name them. `roots` is where an URL's engine sees the blobs, else `root`."""

    urls: tuple[str, ...]
    root: str | None = None
    roots: Mapping[str, str] = field(default_factory=dict)

    @property
    def static(self) -> Replicas:
        """The replicas that need no lookup, by id: (URL, adapter root)."""
        return {
            f"replica-{number}": (url, self.root_of(url))
            for number, url in enumerate(self.urls)
            if not url.startswith(DNS)
        }

    @property
    def names(self) -> dict[str, str]:
        """The URLs that are looked up, by the beginning of their replicas' ids."""
        return {f"replica-{number}-": url for number, url in enumerate(self.urls) if url.startswith(DNS)}

    def root_of(self, url: str) -> str | None:
        """Return where the engines of a URL see the blobs; None is where the controller sees them."""
        return self.roots.get(url, self.root)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, IPv4 ones when there are any: both kinds would be each engine twice.

    Raises:
        OSError: the name can't be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family = {
        family: sorted({str(entry[4][0]) for entry in found if entry[0] == family})
        for family in (socket.AF_INET, socket.AF_INET6)
    }
    return by_family[socket.AF_INET] or by_family[socket.AF_INET6]


class Discovery:
    """Keeps the store's replicas in step with DNS. `leaving` are those whose address is gone."""

    def __init__(
        self,
        fleet: Fleet,
        engines: Engines,
        *,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leaving: frozenset[str] = frozenset()
        self._fleet = fleet
        self._engines = engines
        self._resolve = resolve
        self._clock = clock
        self._look_at = float("-inf")
        self._gone_since: dict[str, float] = {}

    async def update(self, *, epoch: int) -> None:
        """Look up what is due and make the store's replicas what was found.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
            StoreUnavailable: the store can't be read or written.
        """
        now = self._clock()
        if not self._engines.names or now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        known = {row.id: (row.url, row.adapter_root) for row in self._fleet.replicas()}
        wanted: Replicas = dict(self._engines.static)
        for prefix, url in self._engines.names.items():
            before = {replica: place for replica, place in known.items() if replica.startswith(prefix)}
            found = await self._find(prefix, url)
            wanted |= before if found is None else self._with_leaving(found, before, now)
        self.leaving = frozenset(self._gone_since)
        if wanted != known:
            came, went = sorted(wanted.keys() - known.keys()), sorted(known.keys() - wanted.keys())
            log.info("replicas: %d; came: %s; went: %s", len(wanted), came, went)
            self._fleet.set_replicas(wanted, epoch=epoch)

    async def _find(self, prefix: str, url: str) -> Replicas | None:
        """Return the replicas behind a name; None when that can't be told now."""
        parts = urlsplit(url.removeprefix(DNS))
        host, port = parts.hostname or "", parts.port or 80
        try:
            addresses = await asyncio.wait_for(self._resolve(host, port), LOOKUP_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            log.warning("%s can't be looked up, going on with what is known: %s", host, error or "too slow")
            return None
        if not addresses:
            log.warning("%s has no address now, going on with what is known", host)
            return None
        root = self._engines.root_of(url)
        return {
            f"{prefix}{address}": (f"http://{_bracketed(address)}:{port}{parts.path.rstrip('/')}", root)
            for address in addresses
        }

    def _with_leaving(self, found: Replicas, before: Replicas, now: float) -> Replicas:
        for replica in found:
            self._gone_since.pop(replica, None)
        staying = dict(found)
        for replica in before.keys() - found.keys():
            since = self._gone_since.setdefault(replica, now)
            if now - since < LEAVE_S:
                staying[replica] = before[replica]
            else:
                del self._gone_since[replica]
        return staying


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
