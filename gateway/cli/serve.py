"""`turnout serve`, and the two processes that it starts: `controller` and `worker`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.group import CliError, Group
from gateway.cli.options import Config, LogFormat

if TYPE_CHECKING:
    from gateway.settings import Settings


def serve(
    *,
    config: Config = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Where to listen; 127.0.0.1 by default.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="8080 by default; 0 takes a free one.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Gateway processes; 1 by default.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Engines to start; 1 by default.")
    ] = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option("--engine-url", help="Attach to a running engine and start none; may be repeated."),
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="Add the example adapters to an empty registry.")
    ] = True,
    log_format: LogFormat = None,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--no-watch", help="Run the drift monitor too; [loop] watch by default."),
    ] = None,
) -> None:
    """Serve on this machine: engines, controller and gateway. Ctrl-C stops them all."""
    from gateway.supervise.serve import Overrides  # noqa: PLC0415 - the database and the web stack
    from gateway.supervise.serve import serve as run  # noqa: PLC0415

    overrides = Overrides(
        host=host,
        port=port,
        workers=workers,
        replicas=replicas,
        engine_urls=tuple(engine_url) if engine_url else None,
        log_format=log_format,
        watch=watch,
    )
    try:
        code = run(config, overrides, examples=examples)
    except KeyboardInterrupt:  # before anything was started
        code = 130
    raise typer.Exit(code)


def controller(config: Config = None, log_format: LogFormat = None) -> None:
    """Run a controller; `turnout serve` starts one. Several may run: one of them is elected."""
    from gateway.controller.main import run  # noqa: PLC0415 - only this needs it

    raise typer.Exit(run(*_settings(config, log_format)))


def worker(
    config: Config = None,
    fd: Annotated[
        int | None, typer.Option("--fd", help="A listening socket that the supervisor holds.")
    ] = None,
    admin_fd: Annotated[
        int | None, typer.Option("--admin-fd", help="The same for the administrators' port.")
    ] = None,
    index: Annotated[
        int | None, typer.Option("--index", min=0, help="Its place among the supervisor's workers.")
    ] = None,
    log_format: LogFormat = None,
) -> None:
    """Run one gateway process and nothing else, as containers do; `turnout serve` starts its own."""
    from gateway.supervise.worker import run  # noqa: PLC0415

    settings, reread = _settings(config, log_format)
    raise typer.Exit(run(settings, fd=fd, admin_fd=admin_fd, index=index, reread=reread))


def build_processes() -> typer.Typer:
    """Return a command line of `controller` and `worker` alone: who runs for long keeps what it imports."""
    app = typer.Typer(name="turnout", cls=Group, add_completion=False, pretty_exceptions_enable=False)
    app.command()(controller)
    app.command()(worker)
    return app


def _settings(config: Path | None, log_format: str | None) -> tuple["Settings", Callable[[], "Settings"]]:
    """Return the settings, and how to read them again."""
    from gateway.settings import SettingsError, load  # noqa: PLC0415 - the web stack's validation

    def read() -> "Settings":
        return load(config, log={"format": log_format})

    try:
        return read(), read
    except SettingsError as error:
        raise CliError(str(error)) from error
