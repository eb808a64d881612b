"""The admin API, assembled: one router under `/admin` (who is let in: `gateway.api.admin_access`)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from adapters.sources.fetching import Sources
from gateway.api.adapter_adds import Adds
from gateway.api.addresses import Addresses
from gateway.api.admin_access import AdminAccess, Refusals
from gateway.api.admin_adapters import AdapterEndpoints
from gateway.api.admin_canary import CanaryEndpoints
from gateway.api.admin_common import AdminRoute
from gateway.api.admin_curation import CurationEndpoints
from gateway.api.admin_drift import DriftEndpoints, MonitorRuns, closing, monitoring_installed
from gateway.api.admin_experiments import ExperimentEndpoints
from gateway.api.admin_feedback import FeedbackEndpoints
from gateway.api.admin_fleet import FleetEndpoints
from gateway.api.admin_forget import ForgetEndpoints
from gateway.api.admin_golden import GoldenEndpoints
from gateway.api.admin_keys import KeyEndpoints
from gateway.api.admin_limits import LimitEndpoints
from gateway.api.admin_lineage import LineageEndpoints
from gateway.api.admin_loop import LoopEndpoints
from gateway.api.admin_routes import RouteEndpoints
from gateway.api.admin_usage import UsageEndpoints
from gateway.api.admin_verify import VerifyEndpoints
from gateway.core.requests import Principal
from gateway.peppers import Peppers
from gateway.store.control import ControlStore
from gateway.store.requests import Requests


@dataclass(frozen=True)
class AdminDeps:
    """What the admin API works on.

    `authenticate` returns who calls or raises NotAuthenticated; `in_flight` counts this worker's requests by
    version; `report_root` is where drift reports lie; `addresses` says where a request came from.
    """

    control: ControlStore
    requests: Requests
    registry: Registry
    sources: Sources
    authenticate: Callable[[Request], Principal]
    in_flight: Callable[[], dict[str, int]]
    pepper: bytes
    base: BaseIdentity
    report_root: Path
    state_dir: Path
    addresses: Addresses = field(default_factory=Addresses)
    refusals: Refusals | None = None
    peppers: Peppers | None = None


def build_router(deps: AdminDeps) -> APIRouter:
    """Return the router. Its lifespan, which the including app runs, ends what it started."""
    runs = MonitorRuns(
        deps.report_root,
        deps.state_dir,
        environment={
            "TURNOUT_STORE__CONTROL_URL": deps.control.database.url,
            "TURNOUT_STORE__REQUESTS_URL": deps.requests.url,
        },
    )

    adds = Adds(deps.registry, deps.sources)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with closing(runs), adds.open():
            yield

    access = AdminAccess(deps.authenticate, addresses=deps.addresses, refusals=deps.refusals)

    def administrators_only(
        request: Request,
        # Documents the scheme in OpenAPI; the routes have asked already, before the body was read.
        _bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        access.check(request)

    router = APIRouter(
        prefix="/admin",
        tags=["admin"],
        route_class=AdminRoute.by(access.check),
        lifespan=lifespan,
        dependencies=[Depends(administrators_only)],
    )
    AdapterEndpoints(deps.control, deps.requests, adds, blobs=deps.registry.root).mount(router)
    VerifyEndpoints(deps.control).mount(router)
    RouteEndpoints(deps.control, deps.requests, base_model=deps.base.name).mount(router)
    CanaryEndpoints(deps.control, deps.requests).mount(router)
    ExperimentEndpoints(deps.control, deps.requests).mount(router)
    FeedbackEndpoints(deps.control, deps.requests).mount(router)
    base, in_flight = deps.base.name, deps.in_flight
    FleetEndpoints(deps.control, deps.requests, base_model=base, in_flight=in_flight).mount(router)
    UsageEndpoints(deps.control, deps.requests).mount(router)
    DriftEndpoints(deps.control, runs, deps.report_root, installed=monitoring_installed).mount(router)
    LoopEndpoints(deps.control, deps.state_dir / "loop").mount(router)
    KeyEndpoints(deps.control, deps.pepper).mount(router)
    LimitEndpoints(deps.control).mount(router)
    CurationEndpoints(deps.control).mount(router)
    GoldenEndpoints(deps.control).mount(router)
    LineageEndpoints(deps.control, deps.requests).mount(router)
    peppers = deps.peppers or Peppers(deps.pepper)
    ForgetEndpoints(deps.control, deps.requests, peppers, state_dir=deps.state_dir).mount(router)
    return router
