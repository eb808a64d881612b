"""`turnout agent`: brings adapters beside an engine on another machine, before they are registered."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from gateway.cli.group import CliError
from gateway.cli.options import LogFormat

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_GIB = 2**30


def agent(
    *,
    registry: Annotated[
        str,
        typer.Option(
            help="Where the registry publishes its blobs (registry.publish_to): s3://bucket/prefix, gs://…, "
            "or a shared folder."
        ),
    ],
    root: Annotated[Path, typer.Option(help="Where they lie on this machine: the engine's adapter_root.")],
    engine_url: Annotated[
        str, typer.Option(help="The engine beside it, which says when its process has changed.")
    ] = "http://127.0.0.1:8000",
    host: Annotated[str, typer.Option(help="Where controllers reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The same as engine.agent_port.")] = 8100,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="TURNOUT_ENGINE__AGENT_KEY",
            show_default=False,
            help="What controllers show. Better in the variable: other users can see a command line.",
        ),
    ] = None,
    max_gib: Annotated[float, typer.Option(min=0.01, help="The most that blobs may take here.")] = 50.0,
    log_format: LogFormat = None,
) -> None:
    """Bring adapters beside an engine on another machine, before they are registered there."""
    from gateway.agent.main import AgentConfig, run  # noqa: PLC0415 - only this needs it
    from gateway.logs import Form  # noqa: PLC0415 - as above

    if host not in _LOOPBACK and not key:
        raise CliError(
            f"{host} can be reached from other machines, and there is no key: set TURNOUT_ENGINE__AGENT_KEY, "
            "here and for the controller"
        )
    form = log_format or "auto"
    if form not in get_args(Form):
        raise typer.BadParameter(f"{form!r} is none of json, text and auto", param_hint="--log-format")
    config = AgentConfig(
        registry, root.absolute(), engine_url, host, port, key, int(max_gib * _GIB), cast("Form", form)
    )
    try:
        run(config)
    except OSError as error:
        raise CliError(error.strerror or str(error)) from error
