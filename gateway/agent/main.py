"""The process `turnout agent`: the composition root of this package. It knows no settings and no store."""

import logging
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from adapters.bucket import Bucket
from gateway.agent.cache import Cache
from gateway.agent.folder import BlobFolder
from gateway.agent.marks import Marks
from gateway.agent.server import build
from gateway.controller.engine_api import incarnation_in
from gateway.logs import Form, configure

ENGINE_TIMEOUT_S = 5.0
_log = logging.getLogger("turnout.agent")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent needs to know. `bucket` is where the registry's blobs are, `root` the `adapter_root`."""

    bucket: str
    root: Path
    engine_url: str
    host: str
    port: int
    key: str | None
    max_bytes: int
    log_format: Form = "auto"


def run(config: AgentConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the folder can't be used, the bucket's package is missing, or the port is taken.
    """
    configure(config.log_format, "info", process="agent")
    folder = BlobFolder(config.root)
    folder.open()
    bucket = Bucket(config.bucket)
    # The engine is this machine's own: no proxy of the environment stands between.
    with httpx.Client(trust_env=False, timeout=ENGINE_TIMEOUT_S) as http:
        cache = Cache(
            folder,
            Marks(config.root),
            bucket,
            max_bytes=config.max_bytes,
            incarnation=lambda: engine_incarnation(http, config.engine_url),
        )
        app = build(
            cache,
            key=config.key,
            max_bytes=config.max_bytes,
            metrics=lambda: engine_metrics(http, config.engine_url),
        )
        _log.info("blobs of %s come to %s", bucket.url, config.root)
        try:
            uvicorn.run(app, host=config.host, port=config.port, log_config=None, access_log=False, ws="none")
        finally:
            cache.close()


def engine_metrics(http: httpx.Client, url: str) -> bytes | None:
    """Return what the engine's metrics say; None when it can't be asked, as while it starts."""
    try:
        answer = http.get(f"{url.rstrip('/')}/metrics")
    except httpx.HTTPError:
        return None
    return answer.content if answer.is_success else None


def engine_incarnation(http: httpx.Client, url: str) -> str | None:
    """Return which process the engine is; None when it can't be asked."""
    said = engine_metrics(http, url)
    return None if said is None else incarnation_in(said.decode("utf-8", "replace"))
