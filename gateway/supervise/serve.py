"""`turnout serve`: from settings to running processes."""

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters.base import BaseMissing, folder_of
from gateway.controller.main import engines_of
from gateway.core.refs import BASE
from gateway.peers import ask_ready, clear, folder_in
from gateway.settings import Settings, SettingsError, load
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.supervise.engine import (
    Base,
    EngineMissing,
    EngineSpec,
    device_of,
    free_port,
    plan,
    require_packages,
)
from gateway.supervise.lock import AlreadyServing, only_one
from gateway.supervise.process import Child
from gateway.supervise.report import Ready, Report
from gateway.supervise.seed import identity_of, library, seed_examples
from gateway.supervise.supervisor import Engine, Limits, Supervisor
from gateway.supervise.targets import write_targets

_BACKLOG = 2048
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a wildcard is reached by


class CannotServe(Exception):
    """What is asked can't be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says over the settings; None where it says nothing."""

    host: str | None = None
    port: int | None = None
    workers: int | None = None
    replicas: int | None = None
    engine_urls: tuple[str, ...] | None = None

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return them as the sections of the settings."""
        return {
            "server": {"host": self.host, "port": self.port, "workers": self.workers},
            "engine": {"replicas": self.replicas, "urls": self.engine_urls},
        }


def serve(config: Path | None, overrides: Overrides, *, examples: bool) -> int:
    """Serve until a signal.

    Returns the exit code: 0, 1 for a failed start, 2 for bad usage, 130 when the stop was forced.
    """
    console = Console(highlight=False)
    try:
        settings = load(config, **overrides.sections())
        with only_one(settings.state_dir.absolute()):
            return _serve(settings, config, overrides, examples=examples, console=console)
    except (SettingsError, CannotServe) as error:
        _complain(str(error))
        return 2
    except (AlreadyServing, BaseMissing, EngineMissing, StoreUnavailable, OSError) as error:
        _complain(str(error))
        return 1


def _serve(
    settings: Settings, config: Path | None, overrides: Overrides, *, examples: bool, console: Console
) -> int:
    database = Database(settings.control_url, "control")
    try:
        _migrate(database, settings)
        store = ControlStore(database)
        refuse_open_host(settings, keys=store.keys.count())
        with _listen(settings) as listener, Report(console) as report:
            engines = _engines(settings)
            attached = engines_of(settings.engine)
            if not attached.names:  # what is looked up is the controller's matter
                replicas = {**{spec.replica: (spec.url, None) for spec in engines}, **attached.static}
                store.fleet.set_replicas(replicas)
                urls = {replica: url for replica, (url, _) in replicas.items()}
                write_targets(settings.state_dir.absolute(), urls)
            if examples:
                _seed(settings, store)
            child_setup = _child_setup(config, overrides, listener)
            supervisor = _supervisor(settings, engines, listener, report, child_setup)
            return supervisor.run(
                settled=lambda: not _pending(store) and _in_use(store, settings),
                ready=lambda: report.ready(_facts(settings, store, _address(settings, listener))),
            )
    finally:
        database.close()


def refuse_open_host(settings: Settings, *, keys: int) -> None:
    """Refuse to be reached from elsewhere while anybody may do anything.

    Raises:
        CannotServe: the host is no loopback address and there is no key.
    """
    if settings.server.loopback or keys or settings.auth.admin_key:
        return
    raise CannotServe(
        f"{settings.server.host} can be reached from other machines, and there is no API key yet, so "
        "everybody would be an administrator. Make one first with `turnout keys create --role admin`, "
        "or set TURNOUT_ADMIN_KEY, or stay on --host 127.0.0.1."
    )


def _migrate(database: Database, settings: Settings) -> None:
    database.migrate()
    requests = Database(settings.requests_url, "requests", durable=False)
    try:
        requests.migrate()
    finally:
        requests.close()


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotServe(
            f"{host}:{port} can't be listened on ({error.strerror}); choose another with --host and --port"
        ) from error
    listener.set_inheritable(True)
    return listener


def _engines(settings: Settings) -> list[EngineSpec]:
    """Return the engines to start: none when the settings name running ones."""
    if settings.engine.urls:
        return []
    require_packages(settings.engine)
    identity_of(settings)  # a base model that is not prepared shows here, before anything starts
    folder = folder_of(settings.base.model)
    base = Base(
        model=str(folder or settings.base.model), served_name=settings.base.name, local=folder is not None
    )
    return plan(
        settings.engine,
        base,
        device=device_of(settings.engine),
        ports=[free_port() for _ in range(settings.engine.replicas)],
        cores=sorted(os.sched_getaffinity(0)),
    )


def _seed(settings: Settings, store: ControlStore) -> None:
    folder = library()
    if folder is not None:
        seed_examples(settings, store, identity_of(settings), folder=folder)


def _address(settings: Settings, listener: socket.socket) -> str:
    host = _ANY_HOST.get(settings.server.host, settings.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _child_setup(
    config: Path | None, overrides: Overrides, listener: socket.socket
) -> tuple[list[str], dict[str, str | None]]:
    """Return the arguments and the environment by which a child reads the same settings."""
    sections = overrides.sections()
    sections["server"]["port"] = listener.getsockname()[1]
    return ["--config", str(config)] if config else [], environment_of(sections)


def environment_of(sections: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """Return settings as the variables that set them."""
    return {
        f"TURNOUT_{section}__{name}".upper(): value if isinstance(value, str) else json.dumps(value)
        for section, fields in sections.items()
        for name, value in fields.items()
        if value is not None
    }


def _supervisor(
    settings: Settings,
    engines: list[EngineSpec],
    listener: socket.socket,
    report: Report,
    child_setup: tuple[list[str], dict[str, str | None]],
) -> Supervisor:
    logs = settings.state_dir.absolute() / "logs"
    logs.mkdir(exist_ok=True)
    arguments, environment = child_setup
    turnout = [sys.executable, "-m", "gateway"]
    drain_s = settings.server.drain_delay_s + settings.server.drain_timeout_s
    # On a terminal the lines of several processes would tear the progress apart; elsewhere (a container,
    # a service manager) standard error is where logs are collected.
    to_files = sys.stderr.isatty()
    meeting = folder_in(settings.state_dir)
    clear(meeting)
    return Supervisor(
        engines=[
            Engine(
                spec.url,
                Child(
                    spec.replica,
                    spec.command,
                    environment=spec.environment,
                    log=_fresh(logs / f"{spec.replica}.log"),
                ),
            )
            for spec in engines
        ],
        controller=Child(
            "controller",
            [*turnout, "controller", *arguments],
            environment=environment,
            log=_fresh(logs / "controller.log") if to_files else None,
        ),
        gateways=[
            Child(
                name,
                [*turnout, "worker", "--fd", str(listener.fileno()), "--index", str(index), *arguments],
                environment=environment,
                log=_fresh(logs / f"{name}.log") if to_files else None,
                pass_fds=[listener.fileno()],
                grace_s=drain_s,
            )
            for index, name in enumerate(gateway_names(settings.server.workers))
        ],
        listener=listener,
        serving=lambda: all(ask_ready(meeting, index) for index in range(settings.server.workers)),
        limits=Limits(start_timeout_s=settings.engine.start_timeout_s, drain_s=drain_s),
        report=report,
    )


def gateway_names(workers: int) -> list[str]:
    """Return what the gateway processes are called in lines and logs."""
    return ["gateway"] if workers == 1 else [f"gateway-{index}" for index in range(workers)]


def _fresh(log: Path) -> Path:
    """Keep the log of the run before beside the new one."""
    if log.exists():
        log.replace(log.with_suffix(".log.before"))
    return log


def _pending(store: ControlStore) -> list[str]:
    """Return one line for each route of which something is not on the engines yet and may still come.

    Once the engines are full, what else active routes name is loaded on demand.
    """
    healthy = {replica.id: replica for replica in store.fleet.replicas() if replica.healthy}
    rows = [
        row
        for row in store.fleet.registrations()
        if row.replica in healthy and row.state in ("attested", "failed")
    ]
    done = {BASE, *(str(row.ref) for row in rows)}
    full = len(rows) >= sum(int(row.capacity.get("max_cpu_loras", 0)) for row in healthy.values()) > 0
    lines = []
    for route in store.routes.rows():
        missing = [arm.adapter for arm in route.spec.arms if arm.adapter not in done]
        if full and route.status.state == "active":
            missing = []
        if missing and route.status.state != "failed":
            lines.append(f"{route.name} waits for {', '.join(missing)}")
        elif route.status.state in ("preparing", "attesting"):
            lines.append(f"{route.name} is {route.status.state}")
    return lines


def _in_use(store: ControlStore, settings: Settings) -> bool:
    """Whether every worker of this machine serves from what the store says now."""
    generation, folder = store.generation(), folder_in(settings.state_dir)
    workers = range(settings.server.workers)
    return all(ask_ready(folder, index, generation=generation) for index in workers)


def _facts(settings: Settings, store: ControlStore, address: str) -> Ready:
    routes = store.routes.rows()
    failed = [
        f"{route.name} failed: {route.status.reason or 'see `turnout status`'}"
        for route in routes
        if route.status.state == "failed"
    ]
    return Ready(
        address=address,
        base=settings.base.name,
        routes=[route.name for route in routes if route.status.state == "active"],
        notes=[*failed, *_pending(store)],
        needs_key=bool(settings.auth.admin_key) or store.keys.count() > 0,
        logs=os.path.relpath(settings.state_dir.absolute() / "logs"),
    )


def _complain(message: str) -> None:
    print(f"turnout: {message}", file=sys.stderr)  # noqa: T201 - this is the command's message
