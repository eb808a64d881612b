"""Where a request came from: the peer's address, or the one that a proxy in front forwards and we believe."""

import ipaddress
from collections.abc import Iterable, Sequence

from fastapi import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_HOPS = 32


class Addresses:
    """Reads addresses. `X-Forwarded-For` counts only as far as `trusted` proxies have written it."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trust(trusted)

    def trust(self, trusted: Iterable[str]) -> None:
        """Believe these proxies, and no others."""
        self._trusted = tuple(ipaddress.ip_network(network, strict=False) for network in trusted)

    def of(self, request: Request) -> str | None:
        """Return the address of a request; None when the connection has none (a socket of the machine)."""
        if request.client is None:
            return None
        return client_address(request.client.host, request.headers.getlist("x-forwarded-for"), self._trusted)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address that the nearest proxy that is not trusted, or else the client itself, has.

    Each proxy appends the address that it was called from, so the list is read from its end, and only while
    the one who wrote the entry is trusted. What stands before an entry that is no address is not believed.
    """
    here = _address(peer)
    if here is None:
        return peer
    entries = [entry for line in forwarded for entry in line.split(",")][-MAX_HOPS:]
    while entries and _within(here, trusted):
        further = _address(entries.pop())
        if further is None:
            break
        here = further
    return str(here)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """Return an address as proxies write it: with a port or without, one of IPv6 in brackets or without."""
    plain = text.strip()
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
