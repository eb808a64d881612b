"""The options of `turnout monitor run`. Their variables and defaults are those of the gateway's settings."""

from pathlib import Path
from typing import Annotated

import typer

LARGEST_WINDOW = 5000  # the kernel takes 4 bytes for every pair of rows: 400 MB for two such windows

Routes = Annotated[
    list[str] | None, typer.Argument(metavar="ROUTE", help="Routes to check.", show_default="all")
]
ReferenceSince = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Begin of the reference window.",
        show_default="when the route's present arms became active",
    ),
]
ReferenceUntil = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="End of the reference window. Not with --reference-rows."),
]
ReferenceRows = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=LARGEST_WINDOW,
        help="The reference is this many of the oldest rows.",
        show_default="--max-rows; half of the rows while there are fewer than twice as many",
    ),
]
CurrentSince = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Begin of the current window.", show_default="after the reference"),
]
MinRows = Annotated[
    int,
    typer.Option(
        min=10, envvar="TURNOUT_MONITORING__MIN_ROWS", help="Rows that each window needs for a verdict."
    ),
]
MaxRows = Annotated[
    int,
    typer.Option(
        min=10, max=LARGEST_WINDOW, envvar="TURNOUT_MONITORING__MAX_ROWS", help="Most rows of a window."
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=0.002,
        max=0.5,
        help="Chance of a false alarm in one look at one route, over all features together.",
    ),
]
Embeddings = Annotated[
    bool,
    typer.Option(help="Compare what prompts mean, by sentence embeddings."),
]
StateDir = Annotated[
    Path, typer.Option(envvar="TURNOUT_STATE_DIR", help="Folder of the databases and the reports.")
]
ControlUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="TURNOUT_STORE__CONTROL_URL",
        help="Control database.",
        show_default="SQLite in the state directory",
    ),
]
RequestsUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="TURNOUT_STORE__REQUESTS_URL",
        help="Requests database.",
        show_default="SQLite in the state directory",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
