"""`/healthz`, `/readyz` and `/metrics`: for supervisors and Prometheus.

They need no key; but on a port that clients of other machines reach too, `/metrics` is for administrators.
`/healthz` and `/readyz` speak for the worker that answers, `/metrics` for all of them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.api.admin_common import faults
from gateway.api.store_metrics import StoreMetrics
from gateway.auth import require
from gateway.core.refs import BASE
from gateway.core.requests import Principal, Role
from gateway.routing.watcher import TableWatcher


@dataclass(frozen=True, slots=True)
class OpsDeps:
    """What the endpoints report. `draining`: whether the worker wants no more new requests.

    `read` reads the store for `known`, and raises StoreUnavailable. With `scrapers`, which says who asks,
    the metrics are for administrators: they name routes, versions and tenants.
    """

    draining: Callable[[], bool]
    watcher: TableWatcher
    stored: StoreMetrics
    in_flight: Callable[[], dict[str, int]]
    exposition: Callable[[], Awaitable[bytes]]
    scrapers: Callable[[Request], Principal] | None


def build_router(deps: OpsDeps) -> APIRouter:
    """Return the router."""
    router = APIRouter(tags=["ops"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer as long as the process runs."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "no table yet, or the worker drains"}})
    async def readyz() -> JSONResponse:
        """Answer 200 while there is a table and the worker does not drain; the store's state is only told."""
        report = readiness(deps)
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    @router.get("/metrics", response_class=PlainTextResponse, responses=faults())
    async def metrics(request: Request) -> Response:
        """Return the metrics of all workers in Prometheus' text format.

        On a port that clients reach too it takes a key with the role admin.
        """
        if deps.scrapers is not None:
            require(deps.scrapers(request), Role.ADMIN)
        await deps.stored.refresh()
        return Response(await deps.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router


def readiness(deps: OpsDeps) -> dict[str, Any]:
    """Return what `/readyz` says."""
    watcher = deps.watcher
    draining = deps.draining()
    report: dict[str, Any] = {
        "ready": watcher.loaded and not draining,
        "draining": draining,
        "in_flight": sum(deps.in_flight().values()),
        "store": "ok" if watcher.store_ok else "unreachable",
    }
    if watcher.loaded:
        table = watcher.table
        healthy = set(table.placement[BASE])
        report["table"] = {"generation": table.generation, "age_s": round(watcher.age_s(), 3)}
        report["replicas"] = {name: name in healthy for name in table.replica_urls}
    return report
