"""How the command line fails: one line on stderr and exit code 1."""

from typing import Any

import typer
from typer.core import TyperGroup


class CliError(Exception):
    """A command can't be done; the message says why and what to do."""


class Group(TyperGroup):
    """A group of commands whose CliError becomes one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Invoke the command."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            typer.echo(f"turnout: {error}", err=True)
            raise typer.Exit(1) from error
