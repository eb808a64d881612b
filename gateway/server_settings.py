"""The settings of the gateway's ports: where it listens, by which certificate, and whom it believes."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


class Section(BaseModel):
    """One section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """Where the gateway listens, who is believed, and how it stops (docs/network.md)."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: int = Field(default=1, ge=1, le=256)
    drain_delay_s: float = Field(default=5.0, ge=0)
    drain_timeout_s: Seconds = 60.0
    admin_port: Port | None = Field(
        default=None, description="a port of its own for /admin, /metrics and the documentation"
    )
    admin_host: str = "127.0.0.1"
    tls_certificate: Path | None = Field(default=None, description="PEM, with the chain; needs tls_key")
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses or networks whose X-Forwarded-For is believed"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins whose pages may call /v1 from a browser; '*' is every one"
    )
    docs_pages: bool = Field(default=False, description="serve /docs, whose scripts come from a CDN")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return _is_loopback(self.host) and (self.admin_port is None or _is_loopback(self.admin_host))

    @property
    def open_hosts(self) -> tuple[str, ...]:
        """The addresses that other machines can reach."""
        hosts = (self.host,) if self.admin_port is None else (self.host, self.admin_host)
        return tuple(host for host in dict.fromkeys(hosts) if not _is_loopback(host))

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(f"{proxy!r} is no address or network, such as '10.0.0.0/8'") from None
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin!r} is no origin; write it like 'https://app.example.com'")
        return origins

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are given together or not at all")
        if self.admin_port and self.admin_port == self.port:
            raise ValueError("admin_port has to be another one than port")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
