"""The agent's HTTP side, for controllers alone: what a blob is, and that it is wanted here.

| call | answer |
|---|---|
| `PUT /v1/blobs/{sha256}` `{"incarnation"}` | `{"state", "done_bytes", "total_bytes", "reason"}`, at once |
| `GET /v1/blobs` | what is in place, and for whom; what room there is |
| `GET /metrics` | the engine's own, without a key: Prometheus need not reach the engine's port |
| `GET /agent/metrics` | this agent's, likewise; of its own, so that either can be away without the other |
| `GET /healthz` | 200, without a key |
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.agent.cache import Cache
from gateway.agent.folder import is_name

MAX_BODY_BYTES = 4096
MAX_INCARNATION_CHARS = 64


def build(
    cache: Cache, *, key: str | None, max_bytes: int, metrics: Callable[[], bytes | None] = lambda: None
) -> Starlette:
    """Return the app. Without a key everybody who reaches it may ask.

    `metrics()` returns what the engine's `/metrics` says, or None while it says nothing.
    """
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - beside its only user

    async def ensure(request: Request) -> Response:
        if not _allowed(request, key):
            return _fault(401, "the key is not this agent's")
        name = request.path_params["name"]
        incarnation = await _incarnation(request)
        if not is_name(name) or incarnation is None:
            return _fault(400, "it takes a digest in hexadecimal and an engine's incarnation")
        try:
            answer = await run_in_threadpool(cache.ensure, name, incarnation)
        except OSError as error:
            return _fault(503, f"its machine's disk refuses: {error.strerror or type(error).__name__}")
        return JSONResponse(asdict(answer))

    async def listing(request: Request) -> Response:
        if not _allowed(request, key):
            return _fault(401, "the key is not this agent's")
        rows: list[dict[str, Any]] = await run_in_threadpool(cache.listing)
        used = sum(int(row["bytes"]) for row in rows)
        free = await run_in_threadpool(cache.free_bytes)
        return JSONResponse({"data": rows, "bytes": used, "max_bytes": max_bytes, "free_bytes": free})

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/v1/blobs", listing, methods=["GET"]),
            Route("/v1/blobs/{name}", ensure, methods=["PUT"]),
            Route("/metrics", _shown(metrics), methods=["GET"]),
            Route("/agent/metrics", _shown(cache.figures.exposition), methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ]
    )


def _shown(metrics: Callable[[], bytes | None]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of some metrics, which takes a thread since they may have to be asked for."""
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - as above

    async def show(_request: Request) -> Response:
        said = await run_in_threadpool(metrics)
        if said is None:
            return _fault(503, "the engine does not answer")
        return Response(said, media_type="text/plain; version=0.0.4")

    return show


def _allowed(request: Request, key: str | None) -> bool:
    given = request.headers.get("authorization", "")
    return key is None or hmac.compare_digest(given.encode(), f"Bearer {key}".encode())


async def _incarnation(request: Request) -> str | None:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    try:
        document = json.loads(body)
    except ValueError:
        return None
    found = document.get("incarnation") if isinstance(document, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_INCARNATION_CHARS else None


def _fault(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
