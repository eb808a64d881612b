"""Where an engine listens: the parts of its URL that a connection needs."""

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an engine, and the path in front of its API (usually empty)."""

    host: str
    port: int
    tls: bool
    prefix: str = ""
    key: str = field(init=False, compare=False, repr=False)
    """All of it in one string, by which a dictionary finds it faster."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.host}\0{self.port}\0{self.tls}\0{self.prefix}")

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an engine's URL.

        Raises:
            ValueError: it is not an http:// or https:// address with a host.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the http:// or https:// address of an engine")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
