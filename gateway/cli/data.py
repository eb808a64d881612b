"""`turnout data`: check data before it is trained on, keep golden sets, forget people."""

import typer

from gateway.cli import golden
from gateway.cli.forget import forget
from gateway.cli.group import Group
from gateway.cli.passthrough import data_check

# The other program's options and its --help are not ours to parse.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Check data, keep golden sets, and forget people."
    )
    group.command("check", context_settings=_PASS_ON, add_help_option=False)(data_check)
    group.command()(forget)
    group.add_typer(golden.commands(), name="golden")
    return group
