"""Settings as the parts of a gateway take them."""

import logging
from collections.abc import Mapping

from adapters.base import BaseMissing, folder_of, identify
from adapters.manifest import BaseIdentity
from adapters.publishing import Publish, publisher
from adapters.registry import Registry
from adapters.sources.policy import SourcePolicy
from gateway.api.listener import ConnectionLimits
from gateway.settings import LimitSettings, Settings
from gateway.store.versions import Versions
from gateway.upstream.client import Timeouts
from gateway.upstream.origin import Origin

_log = logging.getLogger("turnout.app")


def registry(settings: Settings, versions: Versions, *, base: BaseIdentity) -> Registry:
    """Return the registry of versions, with its limits."""
    return Registry(
        settings.blob_root,
        versions,
        base=base,
        max_rank=settings.engine.max_lora_rank,
        base_folder=folder_of(settings.base.model),
        max_bytes=settings.registry.max_source_bytes,
        publish=publish(settings),
        keep=keeps_blobs(settings),
    )


KEPT = {
    "requests": "retention.requests_h",
    "pairs": "shadow.retention_h",
    "ratings": "retention.feedback_h",
}
"""The settings of how long rows are kept, by the kind of rows."""


def kept_s(settings: Settings) -> dict[str, float]:
    """Return for how many seconds rows are kept, by kind; 0 keeps them."""
    hours = {
        "requests": settings.retention.requests_h,
        "pairs": settings.shadow.retention_h,
        "ratings": settings.retention.feedback_h,
    }
    return {kind: kept_h * 3600 for kind, kept_h in hours.items()}


def timeouts(limits: LimitSettings) -> Timeouts:
    """Return how long engines are waited for."""
    return Timeouts(
        connect_s=limits.connect_timeout_s,
        first_byte_s=limits.first_byte_timeout_s,
        idle_s=limits.idle_timeout_s,
        total_s=limits.total_timeout_s,
    )


def connection_limits(limits: LimitSettings) -> ConnectionLimits:
    """Return what a client's connection may take."""
    return ConnectionLimits(
        max_head_bytes=limits.max_head_bytes,
        max_headers=limits.max_headers,
        head_timeout_s=limits.head_timeout_s,
        write_timeout_s=limits.write_timeout_s,
    )


def origins(urls: Mapping[str, str]) -> dict[str, Origin]:
    """Return the addresses of engines by replica; one that is none is left out."""
    parsed = {}
    for replica, url in urls.items():
        try:
            parsed[replica] = Origin.parse(url)
        except ValueError as error:
            _log.error("replica %s is left out: %s", replica, error)
    return parsed


def source_policy(settings: Settings) -> SourcePolicy:
    """Return where adapters may be added from: without a word on it, local folders only to who is local."""
    registry, roots = settings.registry, settings.registry.source_roots
    return SourcePolicy(
        roots=() if roots is None and not settings.server.loopback else roots,
        remote=registry.remote_sources,
        private_addresses=registry.private_sources,
        max_bytes=registry.max_source_bytes,
        timeout_s=registry.fetch_timeout_s,
    )


def publish(settings: Settings) -> Publish | None:
    """Return what publishes blobs for agents; None where they are not published."""
    registry = settings.registry
    if registry.publish_to is None:
        return None
    return publisher(registry.publish_to, timeout_s=registry.fetch_timeout_s)


def keeps_blobs(settings: Settings) -> bool:
    """Whether blobs stay on this machine: nobody reads them here when agents bring them to every engine."""
    return settings.registry.publish_to is None or settings.engine.agent_port is None


def base_identity(settings: Settings) -> BaseIdentity:
    """Return what adapters must fit; without the base model on this machine only its name is known."""
    try:
        return identify(settings.base.model, settings.base.name)
    except BaseMissing as error:
        _log.warning("adapters can't be checked against the base model's bytes: %s", error)
        return BaseIdentity(name=settings.base.name)


def one_port_for_all(settings: Settings) -> bool:
    """Whether other machines' clients come to the port that administrators use."""
    return settings.server.admin_port is None and not settings.server.loopback
