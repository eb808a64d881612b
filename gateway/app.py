"""The composition root of the gateway: settings in, an app out. Its lifespan opens and closes everything."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from adapters.base import BaseMissing, identify
from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway.api import admin, feedback, models, ops
from gateway.api.access import Access
from gateway.api.completions import GenerationEndpoint, HotPath
from gateway.api.drift_metrics import CachedVerdicts, DriftMetrics
from gateway.api.errors import install_error_handlers
from gateway.api.headers import RequestIds
from gateway.api.middleware import EveryAnswer
from gateway.auth import Authenticator, load_pepper
from gateway.proxy import Proxy
from gateway.recording import Recorder
from gateway.replicas.heartbeat import Heartbeat
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import Pool
from gateway.routing.table import RoutingTable
from gateway.routing.watcher import TableWatcher
from gateway.settings import LimitSettings, Settings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.requests import Requests
from gateway.telemetry import Telemetry
from gateway.upstream.client import Client, Timeouts
from gateway.upstream.origin import Origin

HOT_PATHS = ("/v1/chat/completions", "/v1/completions")
DRIFT_CACHE_S = 5.0
FEEDBACK_SETTLE_MARGIN_S = 0.5
_log = logging.getLogger("turnout.app")


def create_app(settings: Settings) -> FastAPI:
    """Build the app of one worker. Nothing is opened before its lifespan begins.

    `app.state.begin_drain()` turns readiness red, for whoever stops the worker.
    """
    gateway = _Gateway(settings)
    app = FastAPI(title="Turnout", version="0.1.0", lifespan=gateway.lifespan)
    app.state.draining = False
    app.state.begin_drain = lambda: setattr(app.state, "draining", True)
    app.router.routes[:0] = [
        Route(path, GenerationEndpoint(path, gateway.hot_path), methods=["POST"]) for path in HOT_PATHS
    ]
    app.include_router(
        models.build_router(
            authenticate=gateway.access.by_request,
            table=lambda: gateway.watcher.table,
            created=int(time.time()),
        )
    )
    app.include_router(feedback.build_router(gateway.feedback_deps()))
    app.include_router(ops.build_router(gateway.ops_deps(draining=lambda: bool(app.state.draining))))
    app.include_router(admin.build_router(gateway.admin_deps()))
    install_error_handlers(app)
    app.add_middleware(
        EveryAnswer,
        hot_paths=frozenset(HOT_PATHS),
        new_id=gateway.new_id,
        telemetry=gateway.telemetry,
        max_body_bytes=settings.limits.max_body_bytes,
    )
    return app


class _Gateway:
    """The parts of one worker, wired."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        limits = settings.limits
        self._control_db = Database(settings.control_url, "control")
        self._requests_db = Database(settings.requests_url, "requests", durable=False)
        self.control = ControlStore(self._control_db)
        self.requests = Requests(self._requests_db)
        self.telemetry = Telemetry()
        self.in_flight = InFlight()
        self.new_id = RequestIds()
        self._pepper = load_pepper(settings.state_dir)
        self.pool = _pool(limits, workers=settings.server.workers)
        self.client = Client(_timeouts(limits))
        self.watcher = TableWatcher(
            self.control,
            base_model=settings.base.name,
            default_capture=settings.recording.capture,
            poll_s=settings.auth.poll_s,
            telemetry=self.telemetry,
            on_swap=self._take_table,
        )
        self.recorder = Recorder(
            self.requests,
            self.telemetry,
            queue_size=settings.recording.queue_size,
            batch_size=settings.recording.batch_size,
            interval_s=settings.recording.interval_s,
            max_text_chars=settings.recording.max_text_chars,
        )
        self._heartbeat = Heartbeat(
            self.control.fleet,
            f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(3)}",
            applied_generation=lambda: self.watcher.generation,
            in_flight=self.in_flight,
            telemetry=self.telemetry,
        )
        admin_key = settings.auth.admin_key
        authenticator = Authenticator(
            self._pepper,
            admin_key=admin_key.get_secret_value() if admin_key else None,
            open_access=settings.server.loopback,
        )
        self.access = Access(authenticator, lambda: self.watcher.table)
        self.hot_path = HotPath(
            new_id=self.new_id,
            authenticate=self.access.by_header,
            table=lambda: self.watcher.table,
            proxy=Proxy(self.client, self.pool, self.in_flight, self.telemetry),
            recorder=self.recorder,
            telemetry=self.telemetry,
            max_body_bytes=limits.max_body_bytes,
            body_timeout_s=limits.body_timeout_s,
        )
        self.telemetry.watch_in_flight(self.in_flight.counts)
        self.telemetry.queued.set_function(lambda: self.pool.waiting)

    def feedback_deps(self) -> feedback.FeedbackDeps:
        """What `/v1/feedback` works on."""
        return feedback.FeedbackDeps(
            authenticate=self.access.by_request,
            table=lambda: self.watcher.table,
            recorder=self.recorder,
            requests=self.requests,
            feedback=self.control.feedback,
            settle_s=self.recorder.interval_s + FEEDBACK_SETTLE_MARGIN_S,
        )

    def ops_deps(self, *, draining: Any) -> ops.OpsDeps:
        """What the endpoints for supervisors and Prometheus report."""
        verdicts = CachedVerdicts(DRIFT_CACHE_S)
        self.telemetry.registry.register(DriftMetrics(lambda: verdicts.rows))
        return ops.OpsDeps(
            draining=draining,
            watcher=self.watcher,
            telemetry=self.telemetry,
            drift=self.control.drift,
            verdicts=verdicts,
            in_flight=self.in_flight.counts,
        )

    def admin_deps(self) -> admin.AdminDeps:
        """What the admin API works on."""
        settings = self._settings
        base = _base_identity(settings)
        return admin.AdminDeps(
            control=self.control,
            requests=self.requests,
            registry=Registry(
                settings.blob_root,
                self.control.versions,
                base=base,
                max_rank=settings.engine.max_lora_rank,
            ),
            authenticate=self.access.by_request,
            in_flight=self.in_flight.counts,
            pepper=self._pepper,
            base=base,
            report_root=settings.state_dir.absolute() / "reports",
            state_dir=settings.state_dir.absolute(),
        )

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Open everything, serve, and close it in the opposite order."""
        async with AsyncExitStack() as stack:
            for database in (self._control_db, self._requests_db):
                stack.callback(database.close)
                await asyncio.to_thread(database.migrate)
            await self.watcher.refresh()
            stack.push_async_callback(self.client.aclose)
            stack.push_async_callback(self.recorder.flush)
            await stack.enter_async_context(_background("recording", self.recorder.run()))
            stack.push_async_callback(self._heartbeat.stop)
            await stack.enter_async_context(_background("table", self.watcher.run()))
            await stack.enter_async_context(_background("heartbeat", self._heartbeat.run()))
            yield

    def _take_table(self, table: RoutingTable) -> None:
        self.pool.update(_origins(table.replica_urls), table.placement)


@asynccontextmanager
async def _background(name: str, work: Any) -> AsyncIterator[None]:
    """Run a loop for as long as the block lasts."""
    task = asyncio.get_running_loop().create_task(work, name=f"turnout-{name}")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _pool(limits: LimitSettings, *, workers: int) -> Pool:
    """Return a pool with this worker's share: its own counts are all that it knows of a replica's load."""
    return Pool(
        limit_per_replica=max(1, limits.max_in_flight_per_replica // workers),
        max_queue=limits.max_queue // workers,
        queue_timeout_s=limits.queue_timeout_s,
    )


def _timeouts(limits: LimitSettings) -> Timeouts:
    return Timeouts(
        connect_s=limits.connect_timeout_s,
        first_byte_s=limits.first_byte_timeout_s,
        idle_s=limits.idle_timeout_s,
        total_s=limits.total_timeout_s,
    )


def _origins(urls: Mapping[str, str]) -> dict[str, Origin]:
    origins = {}
    for replica, url in urls.items():
        try:
            origins[replica] = Origin.parse(url)
        except ValueError as error:
            _log.error("replica %s is left out: %s", replica, error)
    return origins


def _base_identity(settings: Settings) -> BaseIdentity:
    """Return what adapters must fit; without the base model on this machine only its name is known."""
    try:
        return identify(settings.base.model, settings.base.name)
    except BaseMissing as error:
        _log.warning("adapters can't be checked against the base model's bytes: %s", error)
        return BaseIdentity(name=settings.base.name)
