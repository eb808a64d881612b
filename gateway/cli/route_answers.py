"""`turnout routes feedback|signals|shadow`: what came back on a route's answers."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import note, print_json, print_table, when

HOUR_S = 3600.0
LABEL_CHARS = 14

Name = Annotated[str, typer.Argument(metavar="ROUTE", help="The route.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
Hours = Annotated[
    float | None, typer.Option("--hours", min=0, help="Only of the last so many hours.", show_default=False)
]


def mount(group: typer.Typer) -> None:
    """Put the commands into `turnout routes`."""
    group.command()(feedback)
    group.command()(signals)
    group.command()(shadow)


def feedback(
    route: Name,
    *,
    metric: Annotated[str | None, typer.Option(help="Only of this metric.")] = None,
    limit: Limit = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List ratings of a route's answers, newest first: repeated and late ones too, with their comments."""
    with Client(url, api_key) as api:
        page = api.get(f"/admin/routes/{segment(route)}/feedback", limit=limit, metric=metric)
    if json:
        print_json(page)
    elif not page["data"]:
        note(f"No feedback on {route} yet: POST /v1/feedback gives it.")
    else:
        print_table(
            ["AT", "REQUEST", "ARM", "METRIC", "VALUE", "COUNTS", "COMMENT"],
            [
                [
                    when(row["at"]),
                    row["request_id"],
                    row["arm"] or row["adapter"],
                    row["metric"],
                    plain(row["value"]),
                    "internal" if row["internal"] else "late" if row["late"] else "yes",
                    plain(row["comment"] or ""),
                ]
                for row in page["data"]
            ],
        )


def signals(
    route: Name, *, hours: Hours = None, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Count by arm how often clients asked again, left a stream, or were cut by length."""
    with Client(url, api_key) as api:
        page = api.get(f"/admin/routes/{segment(route)}/signals", since=_since(hours))
    if json:
        print_json(page)
        return
    if not page["data"]:
        note(f"Nothing is known yet of {route}.")
        return
    print_table(
        ["ARM", "SIGNAL", "YES", "OF"],
        [[row["arm"], row["metric"], row["true"], row["known"]] for row in page["data"]],
    )


def shadow(
    route: Name,
    *,
    limit: Limit = 5,
    hours: Hours = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show the answers of a route's shadow beside those that clients got, newest first."""
    with Client(url, api_key) as api:
        page = api.get(f"/admin/routes/{segment(route)}/shadow", limit=limit, since=_since(hours))
    if json:
        print_json(page)
        return
    wanted = page["shadow"]
    note(
        f"{route}: {wanted['adapter']} answers a share of {wanted['share']:g} once more"
        if wanted
        else f"{route} has no shadow now"
    )
    if not page["data"]:
        note("No pairs of answers yet.")
        return
    print_table(
        ["SERVED", "SHADOW", "PAIRS", "SHADOW FAILED", "SAME TEXT", "MEAN MS", "SHADOW'S MEAN MS"],
        [
            [
                row["adapter"],
                row["shadow"],
                row["pairs"],
                row["failed"],
                f"{row['same']} of {row['compared']}",
                _rounded(row["mean_latency_ms"]),
                _rounded(row["mean_shadow_latency_ms"]),
            ]
            for row in page["summary"]
        ],
    )
    for pair in page["data"]:
        typer.echo()
        for line in side_by_side(pair):
            typer.echo(line)


def side_by_side(pair: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one pair: the request, and each answer under the version that gave it."""
    yield f"{when(pair['at'])}  {pair['id']}"
    failed = f"(no answer: {pair['shadow_status']} {pair['shadow_error'] or ''})".replace(" )", ")")
    answered = pair["shadow_status"] == 200
    yield from _block("prompt", pair["prompt"])
    yield from _block(pair["adapter"], pair["answer"])
    yield from _block(pair["shadow"], pair["shadow_answer"] if answered else failed)


def plain(value: object) -> str:
    """Return a value as one line that a terminal shows and never obeys."""
    return " ".join(_printable(str(value)).split())


def _block(label: str, text: str | None) -> Iterator[str]:
    lines = _printable("(not kept)" if text is None else text).splitlines() or [""]
    for number, line in enumerate(lines):
        yield f"  {label if number == 0 else '':<{LABEL_CHARS}}  {line}".rstrip()


def _printable(text: str) -> str:
    """Return a text of a stranger's without control characters: they could rewrite what stands above."""
    return "".join(
        char if char == "\n" or char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def _since(hours: float | None) -> float:
    return 0.0 if hours is None else max(0.0, time.time() - hours * HOUR_S)


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
