"""What `turnout doctor` looks at on agents beside engines: do they answer, know our key, and have room."""

import math
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway.cli.checks.check import HTTP_TIMEOUT_S, Check

if TYPE_CHECKING:
    import httpx

    from gateway.settings import Settings

LEAST_FREE_BYTES = 1024**3
FULL = 0.95
_GIB = 1024**3


def agents(settings: "Settings") -> Iterator[Check]:
    """Yield what is found of the agents; nothing where the settings name none."""
    import httpx  # noqa: PLC0415 - other commands need not pay for it

    engine = settings.engine
    if engine.agent_port is None:
        return
    if settings.registry.publish_to is None:
        yield Check(
            "agents",
            ok=False,
            found="engine.agent_port is set and registry.publish_to is not: agents will find no blob",
            todo="set registry.publish_to to what the agents have as --registry",
        )
    headers = {"Authorization": f"Bearer {engine.agent_key.get_secret_value()}"} if engine.agent_key else {}
    with httpx.Client(headers=headers, timeout=HTTP_TIMEOUT_S, trust_env=False) as http:
        for host in sorted(_hosts(engine.urls)):
            yield from _agent(http, f"{f'[{host}]' if ':' in host else host}:{engine.agent_port}")


def _hosts(urls: tuple[str, ...]) -> set[str]:
    """Return the engines' hosts; a name that stands for several is looked up."""
    found: set[str] = set()
    for url in urls:
        parts = urlsplit(url.removeprefix("dns+"))
        host = parts.hostname or ""
        if url.startswith("dns+"):
            try:
                several = socket.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
            except OSError:  # the check of the engine itself says so
                several = []
            found |= {str(address[0]) for *_, address in several}
        else:
            found.add(host)
    return found - {""}


def _agent(http: "httpx.Client", where: str) -> Iterator[Check]:
    import httpx  # noqa: PLC0415 - as above

    name = f"agent {where}"
    try:
        answer = http.get(f"http://{where}/v1/blobs")
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        yield Check(
            name,
            ok=False,
            found=f"no answer ({type(error).__name__})",
            todo="start `turnout agent` beside that engine, or set engine.agent_port to where it listens",
        )
        return
    if answer.status_code == 401:
        yield Check(
            name,
            ok=False,
            found="it has another key than engine.agent_key",
            todo="give both the same TURNOUT_ENGINE__AGENT_KEY",
        )
        return
    if not answer.is_success or not isinstance(document, dict):
        todo = "see that a `turnout agent` listens there, and look into its log"
        yield Check(name, ok=False, found=f"HTTP {answer.status_code}, not an agent's answer", todo=todo)
        return
    yield _room(name, document)


def _room(name: str, document: dict[str, Any]) -> Check:
    """Return how full an agent's cache and its disk are."""
    used, most, free = (_number(document.get(key)) for key in ("bytes", "max_bytes", "free_bytes"))
    blobs = document.get("data")
    count = len(blobs) if isinstance(blobs, list) else 0
    return Check(
        name,
        ok=not (used > FULL * most or free < LEAST_FREE_BYTES),
        found=f"{count} blobs, {used / _GIB:.1f} of {most / _GIB:.1f} GiB; {free / _GIB:.1f} GiB of its disk "
        "are free",
        todo="give it more room (--max-gib, the disk), or engines fewer adapters (engine.max_cpu_loras)",
        grave=False,
    )


def _number(found: Any) -> float:
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else math.nan
