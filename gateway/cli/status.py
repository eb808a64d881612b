"""`turnout status`: the whole service on one screen, and in words what is wrong and what to do."""

import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import age, arms, print_json, print_table

MOST_ROWS = 15
"""Of a section, so that one screen holds all; what is not well comes first."""

MOST_LABELS = 6
_TOLD_ALREADY = frozenset(
    {
        "TurnoutAttestationFailed",
        "TurnoutCanaryHeld",
        "TurnoutControllerGone",
        "TurnoutNoReplica",
        "TurnoutReplicaDown",
        "TurnoutRouteFailed",
    }
)
"""Alerts whose causes the gateway itself tells of, in more words."""


def status(
    *,
    every: Annotated[bool, typer.Option("--all", help="Show every row of every section.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show the whole service on one screen. The exit code is 0 only when all is well."""
    try:
        with Client(url, api_key) as api:
            ready, _ = api.raw("GET", "/readyz")
            found: dict[str, Any] = api.get("/admin/status")
            alerts = _alerts(api)
    except CliError as error:
        if json:  # programs get a document in every case
            what, _, todo = str(error).partition(": ")
            print_json({"ready": False, "problems": [{"what": what, "todo": todo or what}]})
            raise typer.Exit(1) from error
        raise
    found["ready"] = ready == 200
    if not found["ready"]:
        found["problems"].insert(
            0,
            {
                "what": "the gateway is not ready",
                "todo": "it loads its table, or is stopping; `/readyz` and its log say more",
            },
        )
    found["problems"] += alerts
    if json:
        print_json(found)
    else:
        _print(found, url, most=None if every else MOST_ROWS)
    if found["problems"]:
        raise typer.Exit(1)


def _alerts(api: Client) -> list[dict[str, str]]:
    """Return what the metrics show beyond what the gateway says, as problems."""
    from gateway.cli.top import alerts  # noqa: PLC0415 - `--help` need not pay for the parser
    from gateway.cli.top.scrape import NotMetrics, parse  # noqa: PLC0415 - as above

    try:
        scrape = parse(api.text("/metrics"), at=time.monotonic())
    except (CliError, NotMetrics):  # they are on another port, perhaps: the gateway has said what it knows
        return []
    found = alerts.now(scrape, None, wall=time.time())
    return [
        {"what": alert.what, "todo": f"see {alert.runbook} ({alert.name})"}
        for alert in found
        if alert.name not in _TOLD_ALREADY
    ]


def _print(found: dict[str, Any], url: str, *, most: int | None) -> None:
    ready = "ready" if found["ready"] else "NOT ready"
    typer.echo(f"Turnout {found['version']} at {url}: {ready}, generation {found['generation']}")
    typer.echo(f"Base model  {found['base']}")
    holder = found["controller"]
    at_work = "at work" if holder and holder["alive"] else "NOT at work"
    typer.echo(
        f"Controller  {holder['holder']} (epoch {holder['epoch']}), {at_work}"
        if holder
        else "Controller  none"
    )
    replicas = sorted(found["replicas"], key=lambda row: (row["healthy"], not row["failed"]))
    _section(
        "Replicas",
        ["ID", "STATE", "RUNNING FOR", "ATTESTED", "URL"],
        [
            [
                row["id"],
                "healthy" if row["healthy"] else "not healthy",
                age(row["incarnation_age_s"]),
                _labels(row, most=None if most is None else MOST_LABELS),
                row["url"],
            ]
            for row in replicas
        ],
        most=most,
    )
    routes = sorted(found["routes"], key=lambda row: row["status"]["state"] == "active")
    _section(
        "Routes",
        ["ROUTE", "STATE", "TRAFFIC MEETS"],
        [[row["name"], row["status"]["state"], arms(row["status"]["effective_arms"])] for row in routes],
        most=most,
    )
    workers = sorted(found["workers"], key=lambda row: row["alive"])
    _section(
        "Workers",
        ["ID", "STATE", "GENERATION", "IN FLIGHT"],
        [
            [
                row["id"],
                "alive" if row["alive"] else "silent",
                row["applied_generation"],
                sum(row["in_flight"].values()),
            ]
            for row in workers
        ],
        most=most,
    )
    if found["waiting"]:
        _section(
            "Waits for you",
            ["ROUTE", "ASKS", "SINCE", "CANDIDATE", "WHAT TO DO"],
            [_waiting_row(row, found["at"]) for row in found["waiting"]],
            most=most,
        )
    typer.echo()
    _print_problems(found["problems"])


def _waiting_row(row: dict[str, Any], now: float) -> list[object]:
    asks = row["asks"] if row["rows"] is None else f"{row['asks']} of {row['rows']} rows"
    return [row["route"], asks, age(max(0.0, now - row["since"])), row["candidate"], row["todo"]]


def _print_problems(problems: Sequence[dict[str, str]]) -> None:
    if not problems:
        typer.echo("All is well.")
        return
    typer.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    for problem in problems:
        typer.echo(f"- {problem['what']}\n  {problem['todo']}")


def _labels(row: dict[str, Any], *, most: int | None) -> str:
    attested: list[str] = row["attested"]
    shown = [f"{label} (weak)" if label in row["weak"] else label for label in attested[:most]]
    more = len(attested) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _section(title: str, headers: list[str], rows: Sequence[Iterable[object]], *, most: int | None) -> None:
    typer.echo(f"{title}{'' if rows else '  none'}")
    if not rows:
        return
    print_table(headers, [list(row) for row in rows[:most]], indent=2)
    if most is not None and len(rows) > most:
        typer.echo(f"  … and {len(rows) - most} more (--all)")
