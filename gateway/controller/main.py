"""The process `turnout controller`: the composition root of everything in this package."""

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx

from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway import logs
from gateway.controller.agents import Agents
from gateway.controller.blobs import Blobs
from gateway.controller.discovery import Discovery, Engines
from gateway.controller.experimenter import ExperimenterConfig
from gateway.controller.keeper import KeeperConfig
from gateway.controller.lease import Lease
from gateway.controller.loop import Controller, LoopConfig
from gateway.controller.looper import LooperConfig, Machine
from gateway.controller.looping.commands import Programs
from gateway.controller.looping.processes import Place, Processes
from gateway.controller.looping.watcher import Watch, Watcher
from gateway.controller.planner import PlannerConfig
from gateway.controller.pruner import PrunerConfig, Retention
from gateway.core.refs import VersionRef
from gateway.reloading import RELOADABLE, Reread, Take
from gateway.settings import EngineSettings, Settings
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.requests import Requests

log = logging.getLogger(__name__)


def run(settings: Settings, reread: Callable[[], Settings] | None = None) -> int:
    """Run the controller until SIGTERM or SIGINT; 0 after an orderly stop, 1 when it could not start.

    `reread` reads the settings again, for SIGHUP.
    """
    _configure_logs(settings)
    database = Database(settings.control_url, "control")
    requests = Database(settings.requests_url, "requests", durable=False)
    try:
        database.migrate()
        asyncio.run(_serve(settings, ControlStore(database), Requests(requests), reread))
    except StoreUnavailable as error:
        log.error("the control store can't be opened: %s", error)  # noqa: TRY400 - the cause says it all
        return 1
    finally:
        database.close()
        requests.close()
    return 0


async def _serve(
    settings: Settings, store: ControlStore, requests: Requests, reread: Callable[[], Settings] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _attach(settings, store)
    # Only paths of blobs are asked of the registry here, so the base model need not be on this machine.
    registry = Registry(
        settings.blob_root,
        store.versions,
        base=BaseIdentity(name=settings.base.name),
        max_rank=settings.engine.max_lora_rank,
    )
    # Engines are on a private network: no proxy of the environment stands between.
    async with httpx.AsyncClient(trust_env=False) as http:
        controller = Controller(
            store,
            http=http,
            lease=Lease(store.fleet, holder=_holder(), ttl_s=settings.controller.lease_s),
            blobs=Blobs(registry, mirrors=_mirrors(settings), agents=_agents(settings.engine, http)),
            config=_config(settings),
            discovery=Discovery(store.fleet, engines_of(settings.engine)),
            requests=requests,
            machine=_machine(settings),
        )
        if reread is not None:
            loop.add_signal_handler(signal.SIGHUP, Reread(settings, reread, takes=_takes(controller)).again)
        log.info("started; base model %s", settings.base.name)
        await controller.run(stop)
    log.info("stopped")


def _configure_logs(settings: Settings) -> None:
    logs.configure(settings.log.format, settings.log.level, process="controller")


def _takes(controller: Controller) -> dict[str, Take]:
    """Return the settings that may change while it runs, and what takes them."""
    takes: dict[str, Take] = dict.fromkeys(("log.format", "log.level"), _configure_logs)
    if (pruner := controller.upkeep.pruner) is not None:
        kept = [name for name in RELOADABLE if name.startswith("retention.") or name == "shadow.retention_h"]
        takes |= dict.fromkeys(kept, lambda new: pruner.keep_for(_retention(new)))
    return takes


def _retention(settings: Settings) -> Retention:
    kept = settings.retention
    return Retention(
        requests_s=kept.requests_h * 3600,
        pairs_s=settings.shadow.retention_h * 3600,
        feedback_s=kept.feedback_h * 3600,
        drift_s=kept.drift_h * 3600,
    )


def engines_of(settings: EngineSettings) -> Engines:
    """Return the engines that the settings name."""
    return Engines(settings.urls, settings.adapter_root, settings.adapter_roots)


def _attach(settings: Settings, store: ControlStore) -> None:
    """Enter the engines that the settings name, unless the store knows exactly those."""
    engines = engines_of(settings.engine)
    if engines.names:  # what is looked up is the effective controller's matter
        return
    wanted = set(engines.static.values())
    if wanted and wanted != {(row.url, row.adapter_root) for row in store.fleet.replicas()}:
        store.fleet.set_replicas(engines.static)


def _agents(settings: EngineSettings, http: httpx.AsyncClient) -> Agents | None:
    """Return the agents beside the engines, where they have some."""
    if settings.agent_port is None:
        return None
    key = settings.agent_key.get_secret_value() if settings.agent_key else None
    return Agents(http, port=settings.agent_port, key=key)


def _mirrors(settings: Settings) -> dict[str, Path]:
    """Return where this machine sees the engines' own folder."""
    root, here = settings.engine.adapter_root, settings.engine.adapter_root_here
    return {root: here} if root is not None and here is not None else {}


def _config(settings: Settings) -> LoopConfig:
    return LoopConfig(
        interval_s=settings.controller.interval_s,
        min_ready=settings.controller.min_ready,
        planner=PlannerConfig(
            pins=frozenset(ref for pin in settings.placement.pins if (ref := VersionRef.parse(pin))),
            min_ready=settings.controller.min_ready,
            patience_s=settings.placement.patience_s,
            stay_s=settings.placement.stay_s,
            half_life_s=settings.placement.half_life_s,
        ),
        policy=settings.placement.policy,
        experiments=ExperimenterConfig(
            canary_every_s=settings.controller.canary_every_s,
            every_s=settings.controller.experiments_every_s,
            settled_s=_longest_request_s(settings),
        ),
        blob_retention_s=settings.controller.blob_retention_h * 3600,
        pruner=PrunerConfig(retention=_retention(settings)),
        looper=LooperConfig(every_s=settings.loop.every_s, at_once=settings.loop.at_once),
        keeper=KeeperConfig(
            base_model=settings.base.name,
            quantization=None
            if settings.engine.quantization in ("", "none")
            else settings.engine.quantization,
            attest_every_s=settings.controller.attest_every_s,
            max_loras=settings.engine.max_loras,
            max_cpu_loras=max(settings.engine.max_cpu_loras, settings.engine.max_loras),
        ),
    )


def _machine(settings: Settings) -> Machine:
    """Return what the loop starts on this machine."""
    state_dir = settings.state_dir.absolute()
    told = {**settings.told, "TURNOUT_STATE_DIR": str(state_dir)}
    place = Place(state_dir / "loop", min_free_bytes=int(settings.loop.min_free_gib * 2**30))
    processes = Processes(place, Programs(state_dir, environment=told))
    if not settings.loop.watch:
        return Machine(processes)
    # -P: a folder `monitoring` in the working directory is not ours.
    command = [
        sys.executable,
        "-P",
        "-m",
        "monitoring",
        "watch",
        "--every",
        f"{settings.loop.watch_every_s:g}",
    ]
    watch = Watch(
        command,
        log=state_dir / "logs" / "watch.log",
        environment=told,
        needs=("evidently", "pandas", "py3langid", "sklearn"),
    )
    return Machine(processes, Watcher(watch))


def _longest_request_s(settings: Settings) -> float:
    """Return what no request takes longer than: its waiting, its answer, and a retry of it."""
    limits = settings.limits
    waiting = limits.body_timeout_s + limits.queue_timeout_s + settings.placement.cold_load_timeout_s
    return waiting + 2 * limits.total_timeout_s


def _holder() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
