"""The composition root of the gateway: settings in, an app out. Its lifespan opens and closes everything."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from adapters.sources.fetching import Sources
from gateway import configs, tracing
from gateway.api import admin, feedback, models, ops
from gateway.api.access import Access
from gateway.api.addresses import Addresses
from gateway.api.admin_access import Refusals
from gateway.api.completions import HotPath
from gateway.api.cors import Cors
from gateway.api.document import tell_the_truth
from gateway.api.endpoints import ENDPOINTS
from gateway.api.errors import install_error_handlers
from gateway.api.headers import RequestIds
from gateway.api.listener import Listener, not_served_here
from gateway.api.middleware import EveryAnswer
from gateway.api.ports import Ports
from gateway.api.retention_metrics import RetentionMetrics
from gateway.api.store_metrics import StoreMetrics
from gateway.auth import Authenticator, TenantSalts
from gateway.background import background
from gateway.controller.blobs import Blobs
from gateway.lag import LoopLag
from gateway.limits.parts import LimitParts
from gateway.notices import Notice, Notices
from gateway.peers import Peers, folder_in
from gateway.peppers import Peppers
from gateway.proxy import Proxy
from gateway.recording import Recorder
from gateway.replicas.cold import ColdLoads
from gateway.replicas.health import HealthChecks
from gateway.replicas.heartbeat import Heartbeat
from gateway.replicas.in_flight import InFlight
from gateway.replicas.meter import Meter
from gateway.replicas.policies import least_loaded, round_robin
from gateway.replicas.pool import Pool
from gateway.replicas.quarantine import Quarantine
from gateway.replicas.registrar import Attested, Registrar
from gateway.routing.table import RoutingTable
from gateway.routing.watcher import TableWatcher
from gateway.settings import LimitSettings, PlacementSettings, Settings
from gateway.shadows.queue import ShadowLimits, Shadows
from gateway.shadows.replays import Replays
from gateway.store.control import REPLICA_DIED, ControlStore
from gateway.store.database import Database
from gateway.store.requests import Requests
from gateway.store.tombstones import Guard
from gateway.store.wakes import Wakes
from gateway.telemetry import Telemetry
from gateway.upstream.client import Client

FEEDBACK_SETTLE_MARGIN_S = 0.5


def create_app(settings: Settings, *, index: int | None = None) -> FastAPI:
    """Build the app of one worker. Nothing is opened before its lifespan begins.

    `index` is the worker's place among `server.workers`; None is a worker that knows of no others.
    `app.state.begin_drain()` turns readiness red, for whoever stops the worker; `app.state.gateway` are the
    worker's parts; `app.state.listener` is what uvicorn has to take as its `http` protocol; `app.state.ports`
    has to be told the administrators' port, where there is one.

    Raises:
        TracingMissing: traces are asked for, and OpenTelemetry is not installed.
    """
    gateway = Gateway(settings, index=index)
    app = FastAPI(
        title="Turnout",
        version="0.1.0",
        lifespan=gateway.lifespan,
        docs_url="/docs" if settings.server.docs_pages else None,
        redoc_url=None,
    )
    ports = app.state.ports = Ports()
    app.state.gateway = gateway
    app.state.begin_drain = gateway.begin_drain
    app.state.listener = Listener(
        gateway.hot_path.serve,
        {endpoint.path: endpoint for endpoint in ENDPOINTS},
        max_body_bytes=settings.limits.max_body_bytes,
        limits=configs.connection_limits(settings.limits),
        ports=ports,
    )
    app.router.routes[:0] = [
        Route(endpoint.path, not_served_here, methods=["POST"]) for endpoint in ENDPOINTS
    ]
    app.include_router(
        models.build_router(
            authenticate=gateway.access.by_any_key,
            table=lambda: gateway.watcher.table,
            created=int(time.time()),
        )
    )
    app.include_router(feedback.build_router(gateway.feedback_deps()))
    app.include_router(ops.build_router(gateway.ops))
    app.include_router(admin.build_router(gateway.admin_deps()))
    install_error_handlers(app)
    tell_the_truth(app, ENDPOINTS)
    app.add_middleware(
        EveryAnswer,
        new_id=gateway.new_id,
        telemetry=gateway.telemetry,
        max_body_bytes=settings.limits.max_body_bytes,
        body_timeout_s=settings.limits.body_timeout_s,
        cors=gateway.cors,
        ports=ports,
    )
    return app


class Gateway:
    """The parts of one worker, wired."""

    def __init__(self, settings: Settings, *, index: int | None) -> None:
        self._settings = settings
        self._draining = False
        self._limits, self._alive = settings.limits, 1
        self._addresses = Addresses(settings.server.trusted_proxies)
        self._peppers = Peppers.load(
            settings.state_dir, settings.auth.pepper_file, settings.auth.former_pepper_files
        )
        self._base = configs.base_identity(settings)
        self._control_db = Database(settings.control_url, "control")
        self._requests_db = Database(settings.requests_url, "requests", durable=False)
        self.control = ControlStore(self._control_db)
        self.requests = Requests(self._requests_db)
        self.registry = configs.registry(settings, self.control.versions, base=self._base)
        self.sources = Sources(settings.blob_root, configs.source_policy(settings))
        self.telemetry = Telemetry()
        self.guard = Guard(self.control.tombstones, self._peppers)
        self.tracing = tracing.make(settings.tracing.otlp_endpoint, share=settings.tracing.share)
        self.new_id = RequestIds()
        self.in_flight = InFlight(Meter(half_life_s=settings.placement.half_life_s))
        self.notices = Notices(self.control.events, self.control.attestations, self.telemetry)
        self._kept = RetentionMetrics(self._control_db, self._requests_db, configs.kept_s(settings))
        self.stored = StoreMetrics(self.control, self.telemetry, counts=index in (None, 0), kept=self._kept)
        self.watcher = TableWatcher(
            self.control,
            base_model=settings.base.name,
            default_capture=settings.recording.capture,
            poll_s=settings.auth.poll_s,
            telemetry=self.telemetry,
            on_swap=self._take_table,
            keys_last_s=settings.auth.outage_s,
        )
        worker_id = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.limits = LimitParts(self.control.limits, worker_id, self.telemetry)
        self.wakes = Wakes(settings.control_url)
        self.lag = LoopLag()
        self.telemetry.loop_lag.set_function(self.lag.worst_s)
        self._wire_engines(settings.limits, settings.placement)
        self._wire_hot_path(settings)
        self._heartbeat = Heartbeat(
            self.control.fleet,
            worker_id,
            applied_generation=lambda: self.watcher.generation,
            in_flight=self.in_flight,
            telemetry=self.telemetry,
            on_alive=self._share,
            placements=self.control.placement,
        )
        self.peers = Peers(
            self.telemetry,
            folder=None if index is None else folder_in(settings.state_dir),
            index=index or 0,
            count=settings.server.workers,
            ready=lambda: ops.readiness(self.ops),
        )
        self.ops = self._ops_deps()
        self.telemetry.watch_in_flight(self.in_flight.counts)
        self.telemetry.watch_placement(lambda: self.watcher.table.placement if self.watcher.loaded else {})
        self.telemetry.queued.set_function(lambda: self.pool.waiting)
        self._share(1)

    @property
    def takes(self) -> dict[str, Callable[[Settings], None]]:
        """The settings that may change while it runs, by name, and what takes them."""
        return {
            "server.trusted_proxies": lambda new: self._addresses.trust(new.server.trusted_proxies),
            "limits.max_in_flight_per_replica": self._take_limits,
            "limits.max_queue": self._take_limits,
            "recording.capture": lambda new: self.watcher.capture_by(new.recording.capture),
            **dict.fromkeys(configs.KEPT.values(), lambda new: self._kept.keep_for(configs.kept_s(new))),
        }

    def _take_limits(self, settings: Settings) -> None:
        self._limits = settings.limits
        self._share(self._alive)

    def _wire_engines(self, limits: LimitSettings, placement: PlacementSettings) -> None:
        """Make what reaches the engines."""
        self.pool = Pool(
            limit_per_replica=limits.max_in_flight_per_replica,
            max_queue=limits.max_queue,
            queue_timeout_s=limits.queue_timeout_s,
            on_circuit=lambda replica: self.telemetry.circuit(replica.id, replica.breaker.circuit),
            pick=round_robin if placement.pick == "round_robin" else least_loaded,
        )
        self.client = Client(configs.timeouts(limits))
        self.health = HealthChecks(self.client, self.pool, self.telemetry)
        self.quarantine = Quarantine(self._peppers.current, publish=self._publish_death)
        self.registrar = Registrar(self.client, self._attested, self.telemetry, on_mended=self.notices.prove)
        self.cold = ColdLoads(
            self.control.placement,
            self.pool,
            self.telemetry,
            hurry=self.watcher.hurry,
            timeout_s=placement.cold_load_timeout_s,
            max_waiting=limits.max_queue,
        )
        self.proxy = Proxy(
            self.client,
            self.pool,
            self.in_flight,
            self.telemetry,
            health=self.health,
            quarantine=self.quarantine,
            registrar=self.registrar,
            notices=self.notices,
            cold=self.cold,
            on_wait=self.limits.metrics.waited,
        )

    def _wire_hot_path(self, settings: Settings) -> None:
        """Make what a request passes through."""
        recording, auth = settings.recording, settings.auth
        self.cors = Cors(settings.server.cors_origins)
        self.recorder = Recorder(
            self.requests,
            self.telemetry,
            queue_size=recording.queue_size,
            batch_size=recording.batch_size,
            interval_s=recording.interval_s,
            max_text_chars=recording.max_text_chars,
            forgotten=self.guard,
        )
        replays = Replays(
            self.client,
            self.pool,
            self.in_flight,
            self.telemetry,
            health=self.health,
            quarantine=self.quarantine,
            recorder=self.recorder,
            pairs=self.requests.pairs,
            table=lambda: self.watcher.table,
            new_id=self.new_id,
            forgotten=self.guard,
        )
        limits = ShadowLimits(**settings.shadow.model_dump(exclude={"retention_h"}))
        self.shadows = Shadows(replays, self.telemetry, limits=limits)
        authenticator = Authenticator(
            self._peppers,
            admin_key=auth.admin_key.get_secret_value() if auth.admin_key else None,
            open_access=settings.server.loopback,
        )
        self.access = Access(
            authenticator, lambda: self.watcher.table, store_ok=lambda: self.watcher.store_ok
        )
        self.hot_path = HotPath(
            new_id=self.new_id,
            authenticate=self.access.by_header,
            salt=TenantSalts(self._peppers.current).of,
            table=lambda: self.watcher.table,
            overdue=self.watcher.overdue,
            proxy=self.proxy,
            recorder=self.recorder,
            shadows=self.shadows,
            limiter=self.limits.limiter,
            telemetry=self.telemetry,
            tracing=self.tracing,
            body_timeout_s=settings.limits.body_timeout_s,
            cors=self.cors or None,
            rank=self.limits.rank if settings.engine.schedules_by_priority else None,
        )

    def begin_drain(self) -> None:
        """Turn readiness red. Requests are served as before."""
        self._draining = True

    def feedback_deps(self) -> feedback.FeedbackDeps:
        """What `/v1/feedback` works on."""
        return feedback.FeedbackDeps(
            authenticate=self.access.by_request,
            table=lambda: self.watcher.table,
            recorder=self.recorder,
            requests=self.requests,
            feedback=self.control.feedback,
            telemetry=self.telemetry,
            settle_s=self.recorder.interval_s + FEEDBACK_SETTLE_MARGIN_S,
            forgotten=self.guard,
        )

    def _ops_deps(self) -> ops.OpsDeps:
        return ops.OpsDeps(
            draining=lambda: self._draining,
            watcher=self.watcher,
            stored=self.stored,
            in_flight=self.in_flight.counts,
            exposition=self.peers.exposition,
            scrapers=self.access.by_request if configs.one_port_for_all(self._settings) else None,
        )

    def admin_deps(self) -> admin.AdminDeps:
        """What the admin API works on."""
        settings = self._settings
        return admin.AdminDeps(
            control=self.control,
            requests=self.requests,
            registry=self.registry,
            sources=self.sources,
            authenticate=self.access.by_request,
            in_flight=self.in_flight.counts,
            pepper=self._peppers.current,
            base=self._base,
            report_root=settings.state_dir.absolute() / "reports",
            state_dir=settings.state_dir.absolute(),
            addresses=self._addresses,
            refusals=Refusals(self.telemetry.admin_refused),
            peppers=self._peppers,
        )

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Open everything, serve, and close it in the opposite order."""
        async with AsyncExitStack() as stack:
            for database in (self._control_db, self._requests_db):
                stack.callback(database.close)
                await asyncio.to_thread(database.migrate)
            await self.watcher.refresh()
            stack.push_async_callback(asyncio.to_thread, self.tracing.close)
            stack.push_async_callback(self.peers.close)
            await self.peers.open()
            stack.push_async_callback(self.client.aclose)
            stack.push_async_callback(self.notices.flush)
            stack.push_async_callback(self.recorder.flush)
            stack.push_async_callback(self.shadows.aclose)
            stack.push_async_callback(self.limits.ledger.close)
            await stack.enter_async_context(background("recording", self.recorder.run()))
            stack.push_async_callback(self._heartbeat.stop)
            await self._heartbeat.beat()  # before the first request: it also says what this worker's share is
            # Again: until it was heard of, the controller did not wait for this worker.
            await self.watcher.refresh()
            await stack.enter_async_context(background("table", self.watcher.run()))
            await stack.enter_async_context(background("wakes", self.wakes.listen(self.watcher.wake)))
            await stack.enter_async_context(background("lag", self.lag.run()))
            await stack.enter_async_context(background("heartbeat", self._heartbeat.run()))
            await stack.enter_async_context(background("limits", self.limits.ledger.run()))
            await stack.enter_async_context(background("notices", self.notices.run()))
            await stack.enter_async_context(background("health", self.health.run()))
            yield

    def _take_table(self, table: RoutingTable) -> None:
        self.pool.update(configs.origins(table.replica_urls), table.placement, table.homes)
        self.quarantine.learn(table.refused)
        self.stored.see(table)
        self.pool.weigh(self.limits.take(table.limits))

    def _share(self, alive: int) -> None:
        """Take this worker's share of the limits: its own counts are all that it knows of a replica's load.

        A worker of this machine that is being started again is counted on.
        """
        self._alive, limits = alive, self._limits
        workers = max(alive, self._settings.server.workers)
        share = max(1, limits.max_in_flight_per_replica // workers)
        self.pool.resize(limit_per_replica=share, max_queue=limits.max_queue // workers)
        self.shadows.share(workers)
        self.limits.ledger.workers = workers
        self.telemetry.workers.set(alive)
        self.telemetry.replica_share.set(share)

    def _attested(self, replica: str, label: str) -> Attested | None:
        table = self.watcher.table
        engine, digest = table.engines.get(replica), table.digests.get(label)
        if engine is None or engine.incarnation is None or digest is None:
            return None
        if replica not in table.placement.get(label, ()):
            return None
        return Attested(engine.incarnation, Blobs(self.registry).path(digest, engine.adapter_root))

    def _publish_death(self, replica: str, fingerprints: Sequence[str], until: float) -> None:
        notice = Notice(
            REPLICA_DIED,
            replica,
            f"under {len(fingerprints)} requests, which are refused for a while",
            {"refused": list(fingerprints), "until": until},
        )
        self.notices.raise_event(notice, always=True)
