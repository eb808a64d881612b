"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_S = 120.0

Url = Annotated[str, typer.Option("--url", envvar="TURNOUT_URL", help="Where the gateway listens.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="TURNOUT_API_KEY",
        show_default=False,
        help="A key with the role admin. Better set TURNOUT_API_KEY: other users can see a command line.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Why = Annotated[str | None, typer.Option("--why", help="The reason, for the audit log.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is in effect; fail when it fails.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="How long --wait waits, in seconds.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="The settings file; turnout.toml when it exists.")
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="json|text|auto",
        help="How log lines look; auto is text on a terminal and JSON elsewhere.",
        show_default=False,
    ),
]
