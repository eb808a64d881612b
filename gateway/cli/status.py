"""`turnout status`: the whole service on one screen, and in words what is wrong."""

from typing import Any

import typer

from gateway.cli.client import Client
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import age, arms, print_json, print_table


def status(*, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show the whole service on one screen. The exit code is 0 only when all is well."""
    with Client(url, api_key) as api:
        ready, _ = api.raw("GET", "/readyz")
        found: dict[str, Any] = api.get("/admin/status")
    found["ready"] = ready == 200
    if not found["ready"]:
        found["problems"].insert(
            0,
            {
                "what": "the gateway is not ready",
                "todo": "it loads its table, or is stopping; `/readyz` and its log say more",
            },
        )
    if json:
        print_json(found)
    else:
        _print(found, url)
    if found["problems"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any], url: str) -> None:
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
    _section(
        "Replicas",
        ["ID", "STATE", "RUNNING FOR", "ATTESTED", "URL"],
        [
            [
                row["id"],
                "healthy" if row["healthy"] else "not healthy",
                age(row["incarnation_age_s"]),
                ", ".join(f"{label} (weak)" if label in row["weak"] else label for label in row["attested"]),
                row["url"],
            ]
            for row in found["replicas"]
        ],
    )
    _section(
        "Routes",
        ["ROUTE", "STATE", "TRAFFIC MEETS"],
        [
            [row["name"], row["status"]["state"], arms(row["status"]["effective_arms"])]
            for row in found["routes"]
        ],
    )
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
            for row in found["workers"]
        ],
    )
    typer.echo()
    problems = found["problems"]
    if not problems:
        typer.echo("All is well.")
        return
    typer.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    for problem in problems:
        typer.echo(f"- {problem['what']}\n  {problem['todo']}")


def _section(title: str, headers: list[str], rows: list[list[object]]) -> None:
    typer.echo(f"{title}{'' if rows else '  none'}")
    if rows:
        print_table(headers, rows, indent=2)
