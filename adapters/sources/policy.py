"""Which sources may be read, and how much of one."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from adapters.inspect import MAX_ADAPTER_BYTES
from adapters.sources.names import Kind, Source, SourceRefused

REMOTE: tuple[Kind, ...] = ("s3", "gs", "https", "hf")


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """What the gateway reads for whoever may call its admin API.

    `roots` are the folders that local sources must lie in; None lets any path be named. Every file counts,
    links followed. `max_files` bounds the entries of an archive, `timeout_s` the whole fetch.
    """

    roots: tuple[Path, ...] | None = ()
    remote: tuple[Kind, ...] = REMOTE
    private_addresses: bool = False
    max_bytes: int = MAX_ADAPTER_BYTES
    max_files: int = 10_000
    timeout_s: float = 900.0

    def require_allowed(self, source: Source) -> None:
        """Refuse a source that may not be read here. What a host's name stands for is checked at connecting.

        Raises:
            SourceRefused: it may not.
        """
        if source.kind == "path":
            self._require_path(Path(source.text))
        elif source.kind not in self.remote:
            raise SourceRefused(
                f"{source.kind}:// sources are switched off on this gateway (registry.remote_sources names "
                f"{', '.join(self.remote) or 'none'})"
            )

    def require_within(self, path: Path) -> None:
        """Refuse a file that lies outside the roots, links followed.

        Raises:
            SourceRefused: it does.
        """
        if self.roots is None:
            return
        real = path.resolve()
        if not any(real.is_relative_to(root.resolve()) for root in self.roots):
            known = ", ".join(str(root) for root in self.roots) or "no folder"
            raise SourceRefused(
                f"{path} is outside the folders that adapters may be added from ({known}); put it there, use "
                "a bucket, or name its folder in registry.source_roots of the gateway's settings"
            )

    def _require_path(self, path: Path) -> None:
        if not path.is_absolute():
            raise SourceRefused(
                f"{str(path)!r} is a relative path; name the folder or tar on the gateway's machine "
                "absolutely"
            )
        self.require_within(path)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's: not loopback, private, link-local or its alias."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
