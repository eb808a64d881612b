"""What `turnout doctor` looks at on the machine: Python, libraries, disk, files, limits, ports."""

import importlib.metadata
import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from gateway.cli.checks.check import HTTP_TIMEOUT_S, Check

if TYPE_CHECKING:
    from gateway.settings import Settings

OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 1024**3
LITTLE_FREE_BYTES = 5 * 1024**3
FILES_BESIDE_CONNECTIONS = 256


def python() -> Check:
    """Return whether this Python is new enough."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    oldest = ".".join(str(part) for part in OLDEST_PYTHON)
    return Check(
        "python", ok=sys.version_info >= OLDEST_PYTHON, found=found, todo=f"use Python {oldest} or newer"
    )


def libraries() -> Check:
    """Return whether the libraries that the gateway needs are here, in versions that it was made for."""
    wrong = []
    try:
        wanted = importlib.metadata.requires("turnout") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            here = importlib.metadata.version(requirement.name)
            fits = requirement.specifier.contains(here, prereleases=True)
        except (importlib.metadata.PackageNotFoundError, InvalidVersion):
            here, fits = "missing", False
        if not fits:
            wrong.append(f"{requirement.name} is {here}, wanted {requirement.specifier or 'any'}")
    return Check(
        "libraries",
        ok=not wrong,
        found="; ".join(wrong) or f"{len(wanted)} requirements looked at, all met",
        todo="run `make setup`, or pip install the versions of requirements/gateway.txt",
    )


def state_dir(folder: Path) -> Check:
    """Return whether the state directory can be written or made."""
    place = folder.absolute()
    standing = _standing(place)
    if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
        found = str(place) if standing == place else f"{place} (will be made)"
        return Check("state directory", ok=True, found=found)
    return Check(
        "state directory",
        ok=False,
        found=f"{standing} can't be written by this user",
        todo="give it to this user, or set state_dir to another folder",
    )


def disk(folder: Path) -> Check:
    """Return whether there is room for rows and adapters."""
    free = shutil.disk_usage(_standing(folder.absolute())).free
    return Check(
        "disk",
        ok=free >= LITTLE_FREE_BYTES,
        found=f"{free / 1024**3:.1f} GiB are free for the state directory",
        todo="make room, or set retention.requests_h lower; a full disk stops recording and changes",
        grave=free < LEAST_FREE_BYTES,
    )


def files(settings: "Settings", config: Path | None) -> Iterator[Check]:
    """Yield what is wrong with who may read or write the files that matter; one line when nothing is."""
    folder = settings.state_dir.absolute()
    server, auth = settings.server, settings.auth
    pepper = auth.pepper_file or folder / "pepper"
    secret = [pepper, *auth.former_pepper_files, server.tls_key, _with_secrets(settings, config)]
    faults = []
    for path in secret:
        if path is not None and path.exists():
            faults += _faults_of_secret(path)
    if _open_to_others(folder):
        stores = [folder / "control.db", folder / "requests.db"]
        faults += [fault for path in stores if path.exists() for fault in _faults_of_secret(path)]
    for path in (folder / "control.db", folder / "requests.db", folder / "adapters"):
        if path.exists() and not os.access(path, os.W_OK):
            faults.append((f"{path} can't be written by this user", f"chown it to {_user()}"))
    for found, todo in faults:
        yield Check("files", ok=False, found=found, todo=todo)
    if not faults:
        yield Check("files", ok=True, found="secrets are their owner's only, and stores can be written")


def open_files(settings: "Settings") -> Check:
    """Return whether this process may open as many connections as the limits allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = settings.limits
    engines = max(len(settings.engine.urls), settings.engine.replicas)
    under_way = engines * limits.max_in_flight_per_replica
    need = 2 * under_way + limits.max_queue + FILES_BESIDE_CONNECTIONS
    unlimited = soft == resource.RLIM_INFINITY
    return Check(
        "open files",
        ok=unlimited or soft >= need,
        found=f"{'any number' if unlimited else soft} allowed, {need} may be needed",
        todo="raise it (ulimit -n, LimitNOFILE=), or set limits.max_in_flight_per_replica lower",
        grave=False,
    )


def ports(settings: "Settings") -> Iterator[Check]:
    """Yield whether each port can be had, or is a running gateway's."""
    server = settings.server
    yield _port("port", server.host, server.port, "server.port")
    if server.admin_port is not None:
        yield _port("admin port", server.admin_host, server.admin_port, "server.admin_port")


def certificate(settings: "Settings") -> Iterator[Check]:
    """Yield whether the certificate and its key can be used, where there are some."""
    from gateway.supervise.ports import certificate_of  # noqa: PLC0415 - the web stack
    from gateway.supervise.tls import BadCertificate  # noqa: PLC0415

    if settings.server.tls_certificate is None:
        return
    try:
        certificate_of(settings)
    except BadCertificate as error:
        yield Check("certificate", ok=False, found=str(error), todo="give a PEM certificate and its own key")
        return
    yield Check("certificate", ok=True, found=str(settings.server.tls_certificate))


def _port(name: str, host: str, port: int, field: str) -> Check:
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if _is_turnout(host, port):
            return Check(name, ok=True, found=f"{where}, where a Turnout gateway is running")
        return Check(
            name,
            ok=False,
            found=f"{where} can't be had: {error.strerror}",
            todo=f"stop what listens there, or set {field}",
        )
    return Check(name, ok=True, found=f"{where} is free")


def _is_turnout(host: str, port: int) -> bool:
    import httpx  # noqa: PLC0415 - other commands need not pay for it

    try:
        answer = httpx.get(f"http://{host}:{port}/v1/models", timeout=HTTP_TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return "x-turnout-route" in answer.headers


def _standing(place: Path) -> Path:
    return next(one for one in (place, *place.parents) if one.exists())


def _with_secrets(settings: "Settings", config: Path | None) -> Path | None:
    """Return the settings file when it holds a key or a password."""
    from gateway.settings import DEFAULT_FILE  # noqa: PLC0415 - as above

    path = config or Path(os.environ.get("TURNOUT_CONFIG", DEFAULT_FILE))
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    urls = (settings.store.control_url, settings.store.requests_url)
    given = [url for url in urls if url is not None and "@" in url and url in text]
    key = settings.auth.admin_key
    return path if given or (key is not None and key.get_secret_value() in text) else None


def _faults_of_secret(path: Path) -> list[tuple[str, str]]:
    if not os.access(path, os.R_OK):
        return [(f"{path} can't be read by this user", f"chown it to {_user()}")]
    if _open_to_others(path):
        mode = stat.filemode(path.stat().st_mode)
        return [(f"{path} can be read by others ({mode})", f"chmod 600 {path}")]
    return []


def _open_to_others(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & 0o044)


def _user() -> str:
    return f"user {os.geteuid()}"
