"""What a command line of a manifest asks for, held against the command line as it is."""

from collections.abc import Sequence

import typer.main

from gateway.cli.main import build_app


def unknown(command: Sequence[str]) -> list[str]:
    """Return what `turnout …` does not know of a command: the command itself, or its options."""
    assert command[0] == "turnout", command
    root = typer.main.get_command(build_app())
    known = root.get_command(None, command[1])  # type: ignore[attr-defined]  # it is a group
    if known is None:
        return [command[1]]
    options = {option for parameter in known.params for option in parameter.opts}
    given = [part.partition("=")[0] for part in command[2:] if part.startswith("-")]
    return [option for option in given if option not in options]
