"""The command line, assembled. Heavy libraries are imported by the commands that need them."""

from typing import Annotated

import typer

from gateway.cli import adapters, audit, data, keys, limits, loop, routes
from gateway.cli.agent import agent
from gateway.cli.backup import backup, restore
from gateway.cli.doctor import doctor
from gateway.cli.group import Group
from gateway.cli.passthrough import evaluate, monitor, probe, runs, train
from gateway.cli.serve import controller, serve, worker
from gateway.cli.status import status
from gateway.cli.top.command import top
from gateway.cli.usage import usage

# The other program's options and its --help are not ours to parse.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def build_app() -> typer.Typer:
    """Return the command line's application."""
    app = typer.Typer(
        name="turnout",
        cls=Group,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Serve one base model with many LoRA adapters: routes, hot swap, training and drift.",
    )
    app.callback()(_root)
    app.command()(serve)
    app.command()(controller)
    app.command()(agent)
    app.command()(worker)
    app.command()(status)
    app.command()(top)
    app.command()(usage)
    app.add_typer(adapters.commands(), name="adapters")
    app.add_typer(routes.commands(), name="routes")
    app.add_typer(keys.commands(), name="keys")
    app.add_typer(limits.commands(), name="limits")
    app.add_typer(audit.commands(), name="audit")
    app.add_typer(loop.commands(), name="loop")
    app.command(context_settings=_PASS_ON, add_help_option=False)(train)
    app.command(context_settings=_PASS_ON, add_help_option=False)(runs)
    app.add_typer(data.commands(), name="data")
    app.command(context_settings=_PASS_ON, add_help_option=False)(probe)
    app.command(context_settings=_PASS_ON, add_help_option=False)(evaluate)
    app.command(context_settings=_PASS_ON, add_help_option=False)(monitor)
    app.command()(doctor)
    app.command()(backup)
    app.command()(restore)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only this needs it

        typer.echo(f"turnout {version('turnout')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Hold the options of the whole command line."""
