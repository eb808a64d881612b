"""The options of `turnout monitor watch`. Their variables and defaults are those of the settings."""

from typing import Annotated

import typer

from gateway.core.times import parse_time

_ENV = "TURNOUT_MONITORING__"

Routes = Annotated[
    list[str] | None, typer.Argument(metavar="ROUTE", help="Routes to watch.", show_default="all")
]
Every = Annotated[
    str, typer.Option(metavar="TIME", help="From the begin of a look to that of the next: 30s, 10m, 1h.")
]
Once = Annotated[bool, typer.Option("--once", help="Look once and end.")]
MinRows = Annotated[
    int,
    typer.Option(
        min=40, envvar=f"{_ENV}REFERENCE_ROWS", help="Prompts that a reference needs, one a subject and day."
    ),
]
MinDays = Annotated[
    float,
    typer.Option(min=0, max=366, envvar=f"{_ENV}REFERENCE_DAYS", help="Days that a reference needs."),
]
ReferenceSince = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Begin of a reference that you choose, for one route.",
        show_default="when the version got most of the traffic",
    ),
]
ReferenceUntil = Annotated[str | None, typer.Option(metavar="TIME", help="End of that reference.")]
Settle = Annotated[
    str,
    typer.Option(
        metavar="TIME", help="Requests are looked at when they are so old: rows are written at their end."
    ),
]
FalseAlarms = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1000,
        envvar=f"{_ENV}FALSE_ALARMS_A_MONTH",
        help="Budget of false alarms a month, of all routes together.",
    ),
]
EmbeddingModel = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        envvar=f"{_ENV}EMBEDDING_MODEL",
        help="A sentence-transformers model: a folder, or a name in the local cache.",
    ),
]
KeepReports = Annotated[
    int,
    typer.Option(
        min=1, max=10_000, envvar=f"{_ENV}KEEP_REPORTS", help="Reports kept of each route, the newest."
    ),
]


def seconds(text: str, option: str, *, least: float = 0.0) -> float:
    """Return a length of time such as `10m`, or plain seconds.

    Raises:
        typer.BadParameter: it is none, or too short.
    """
    try:
        length = float(text)
    except ValueError:
        try:
            length = -parse_time(text, now=0.0)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} is no time like 30s, 10m or 1h", param_hint=option) from error
    if not least <= length <= 366 * 86_400:
        raise typer.BadParameter(f"{text!r} is not between {least:g} s and a year", param_hint=option)
    return length


def moment(text: str | None, option: str, *, now: float) -> float | None:
    """Return seconds since the epoch of a time as `gateway.core.times` reads it.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    try:
        return parse_time(text, now=now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
