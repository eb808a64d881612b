"""`turnout serve`: from settings to running processes."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters.base import BaseMissing, folder_of
from gateway import logs
from gateway.controller.main import engines_of
from gateway.core.refs import BASE
from gateway.peers import ask_ready, clear, folder_in
from gateway.peppers import Peppers
from gateway.reloading import Reread
from gateway.settings import Settings, SettingsError, load
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.keys import KeyRow
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
from gateway.supervise.ports import certificate_of, listen
from gateway.supervise.process import Child
from gateway.supervise.report import Ready, Report
from gateway.supervise.seed import identity_of, library, seed_examples
from gateway.supervise.supervisor import Engine, Limits, Supervisor
from gateway.supervise.targets import write_targets
from gateway.supervise.tls import BadCertificate

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
    log_format: str | None = None
    watch: bool | None = None

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return them as the sections of the settings."""
        return {
            "server": {"host": self.host, "port": self.port, "workers": self.workers},
            "engine": {"replicas": self.replicas, "urls": self.engine_urls},
            "log": {"format": self.log_format},
            "loop": {"watch": self.watch},
        }


def serve(config: Path | None, overrides: Overrides, *, examples: bool) -> int:
    """Serve until a signal.

    Returns the exit code: 0, 1 for a failed start, 2 for bad usage, 130 when the stop was forced.
    """
    console = Console(highlight=False)
    try:
        settings = load(config, **overrides.sections())
        logs.configure(settings.log.format, settings.log.level, process="serve")
        with only_one(settings.state_dir.absolute()):
            return _serve(settings, config, overrides, examples=examples, console=console)
    except (SettingsError, CannotServe) as error:
        _complain(str(error))
        return 2
    except (AlreadyServing, BadCertificate, BaseMissing, EngineMissing, StoreUnavailable, OSError) as error:
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
        refuse_strange_pepper(settings, store.keys.rows())
        certificate_of(settings)  # what can't be used shows here, before anything starts
        with contextlib.ExitStack() as stack:
            report = stack.enter_context(Report(console, as_lines=_as_lines(settings, console)))
            listeners = [stack.enter_context(listener) for listener in _listen(settings)]
            engines = _engines(settings)
            attached = engines_of(settings.engine)
            if not attached.names:  # what is looked up is the controller's matter
                replicas = {**{spec.replica: (spec.url, None) for spec in engines}, **attached.static}
                store.fleet.set_replicas(replicas)
                urls = {replica: url for replica, (url, _) in replicas.items()}
                write_targets(settings.state_dir.absolute(), urls)
            if examples:
                _seed(settings, store)
            child_setup = _child_setup(config, overrides, listeners)
            reread = Reread(settings, lambda: load(config, **overrides.sections()), tell=report.line)
            supervisor = _supervisor(settings, engines, listeners, report, child_setup, reread=reread)
            return supervisor.run(
                settled=lambda: not _pending(store) and _in_use(store, settings),
                ready=lambda: report.ready(_facts(settings, store, _addresses(settings, listeners))),
            )
    finally:
        database.close()


def _as_lines(settings: Settings, console: Console) -> bool:
    """Whether what people would read is logged instead: where none of them looks on, or it is asked for."""
    form = settings.log.format
    return form == "json" or (not console.is_terminal and logs.resolve(form) == "json")


def refuse_open_host(settings: Settings, *, keys: int) -> None:
    """Refuse to be reached from elsewhere while anybody may do anything.

    Raises:
        CannotServe: the host is no loopback address and there is no key.
    """
    if settings.server.loopback or keys or settings.auth.admin_key:
        return
    raise CannotServe(
        f"{settings.server.open_hosts[0]} can be reached from other machines, and there is no API key yet, "
        "so everybody would be an administrator. Make one first with `turnout keys create --role admin`, "
        "or set TURNOUT_ADMIN_KEY, or stay on --host 127.0.0.1."
    )


def refuse_strange_pepper(settings: Settings, keys: Sequence[KeyRow]) -> None:
    """Refuse to start where every key would be refused: their hashes were made with another secret.

    Raises:
        CannotServe: a file is no pepper, or none of them knows any of the valid keys.
    """
    auth = settings.auth
    try:
        peppers = Peppers.load(settings.state_dir, auth.pepper_file, auth.former_pepper_files)
    except ValueError as error:
        raise CannotServe(str(error)) from error
    valid = [key for key in keys if key.valid(time.time())]
    if not valid or auth.admin_key or any(peppers.knows(key.pepper) for key in valid):
        return
    raise CannotServe(
        f"the store has {len(valid)} API keys, and none of them was made with the pepper of this machine "
        f"({auth.pepper_file or settings.state_dir.absolute() / 'pepper'}), so all of them would be refused. "
        "Copy that file from the machine that they were made on, or set auth.pepper_file. If it is lost, set "
        "TURNOUT_ADMIN_KEY and make new keys (docs/keys.md)."
    )


def _migrate(database: Database, settings: Settings) -> None:
    database.migrate()
    requests = Database(settings.requests_url, "requests", durable=False)
    try:
        requests.migrate()
    finally:
        requests.close()


def _listen(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets: the gateway's, and the administrators' where they have one."""
    server = settings.server
    wanted = [(server.host, server.port, "--host and --port")]
    if server.admin_port is not None:
        wanted.append((server.admin_host, server.admin_port, "server.admin_host and server.admin_port"))
    listeners: list[socket.socket] = []
    for host, port, how in wanted:
        try:
            listeners.append(listen(host, port))
        except OSError as error:
            for listener in listeners:
                listener.close()
            raise CannotServe(
                f"{host}:{port} can't be listened on ({error.strerror}); choose another with {how}"
            ) from error
    for listener in listeners:
        listener.set_inheritable(True)
    return listeners


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


def _addresses(settings: Settings, listeners: Sequence[socket.socket]) -> list[str]:
    """Return the addresses by which this machine reaches the ports."""
    server = settings.server
    scheme = "http" if server.tls_certificate is None else "https"
    found = []
    for host, listener in zip((server.host, server.admin_host), listeners, strict=False):
        reached = _ANY_HOST.get(host, host)
        found.append(
            f"{scheme}://{f'[{reached}]' if ':' in reached else reached}:{listener.getsockname()[1]}"
        )
    return found


def _child_setup(
    config: Path | None, overrides: Overrides, listeners: Sequence[socket.socket]
) -> tuple[list[str], dict[str, str | None]]:
    """Return the arguments and the environment by which a child reads the same settings."""
    sections = overrides.sections()
    for name, listener in zip(("port", "admin_port"), listeners, strict=False):
        sections["server"][name] = listener.getsockname()[1]
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
    listeners: Sequence[socket.socket],
    report: Report,
    child_setup: tuple[list[str], dict[str, str | None]],
    *,
    reread: Reread,
) -> Supervisor:
    folder = settings.state_dir.absolute() / "logs"
    folder.mkdir(exist_ok=True)
    arguments, environment = child_setup
    turnout = [sys.executable, "-m", "gateway"]
    drain_s = settings.server.drain_delay_s + settings.server.drain_timeout_s
    # On a terminal the lines of several processes would tear the progress apart; elsewhere (a container,
    # a service manager) standard error is where logs are collected.
    to_files = sys.stderr.isatty()
    if to_files:  # a person reads the files too
        environment = {"TURNOUT_LOG__FORMAT": logs.resolve(settings.log.format), **environment}
    meeting = folder_in(settings.state_dir)
    clear(meeting)
    fds = [listener.fileno() for listener in listeners]
    handed = [text for name, fd in zip(("--fd", "--admin-fd"), fds, strict=False) for text in (name, str(fd))]
    return Supervisor(
        engines=[
            Engine(
                spec.url,
                Child(
                    spec.replica,
                    spec.command,
                    environment=spec.environment,
                    log=_fresh(folder / f"{spec.replica}.log"),
                ),
            )
            for spec in engines
        ],
        controller=Child(
            "controller",
            [*turnout, "controller", *arguments],
            environment=environment,
            log=_fresh(folder / "controller.log") if to_files else None,
        ),
        gateways=[
            Child(
                name,
                [*turnout, "worker", *handed, "--index", str(index), *arguments],
                environment=environment,
                log=_fresh(folder / f"{name}.log") if to_files else None,
                pass_fds=fds,
                grace_s=drain_s,
            )
            for index, name in enumerate(gateway_names(settings.server.workers))
        ],
        listeners=listeners,
        serving=lambda: all(ask_ready(meeting, index) for index in range(settings.server.workers)),
        limits=Limits(start_timeout_s=settings.engine.start_timeout_s, drain_s=drain_s),
        report=report,
        reread=reread.again,
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


def _facts(settings: Settings, store: ControlStore, addresses: Sequence[str]) -> Ready:
    routes = store.routes.rows()
    failed = [
        f"{route.name} failed: {route.status.reason or 'see `turnout status`'}"
        for route in routes
        if route.status.state == "failed"
    ]
    return Ready(
        address=addresses[0],
        admin=addresses[1] if len(addresses) > 1 else None,
        base=settings.base.name,
        routes=[route.name for route in routes if route.status.state == "active"],
        notes=[*failed, *_pending(store), *_in_the_clear(settings)],
        needs_key=bool(settings.auth.admin_key) or store.keys.count() > 0,
        logs=os.path.relpath(settings.state_dir.absolute() / "logs"),
    )


def _in_the_clear(settings: Settings) -> list[str]:
    """Return a line where keys go over a network as they are."""
    server = settings.server
    if not server.open_hosts or server.tls_certificate is not None or server.trusted_proxies:
        return []
    hosts = ", ".join(server.open_hosts)
    return [
        f"keys go unencrypted to {hosts}: set server.tls_certificate, or trusted_proxies (docs/network.md)"
    ]


def _complain(message: str) -> None:
    print(f"turnout: {message}", file=sys.stderr)  # noqa: T201 - this is the command's message
