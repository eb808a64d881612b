"""`turnout limits`: what keys, tenants and routes may take, and tenants' shares of full replicas."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import Client
from gateway.cli.group import Group
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url, Why
from gateway.cli.output import note, print_json, print_table

Limit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="requests_per_minute, tokens_per_minute, concurrent, tokens_per_day, tokens_per_month, "
        "max_tokens or max_body_bytes; of tenants weight and priority (low, normal, high) too. May be given "
        "several times.",
    ),
]
_WORDS = ("priority",)
_DEFAULTS = {"weight": 1.0, "priority": "normal"}


class ScopeName(StrEnum):
    """Whose limits they are."""

    KEY = "key"
    TENANT = "tenant"
    ROUTE = "route"


Whose = Annotated[ScopeName, typer.Argument(help="Whose limits.")]
Name = Annotated[
    str, typer.Argument(help="A key's id, a tenant or a route; '*' for everybody who has none of his own.")
]


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        help="What keys, tenants and routes may take: requests, tokens, budgets, shares (docs/limits.md).",
    )
    group.command("list")(list_)
    group.command("set")(set_)
    group.command()(show)
    group.command()(remove)
    return group


def list_(*, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List everybody who has limits, and what has been spent of budgets."""
    with Client(url, api_key) as api:
        page = api.get("/admin/limits")
    if json:
        print_json(page)
    elif not page["data"]:
        note("Nobody is limited: `turnout limits set tenant NAME --limit requests_per_minute=600` begins.")
    else:
        print_table(
            ["SCOPE", "NAME", "LIMITS", "TOKENS TODAY", "THIS MONTH"],
            [
                [one["scope"], one["name"], limits_line(one["limits"]), one["spent_day"], one["spent_month"]]
                for one in page["data"]
            ],
        )


def show(
    scope: Whose, name: Name, *, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Show somebody's limits."""
    with Client(url, api_key) as api:
        found = api.get(_path(scope, name))
    _print(found, json=json)


def set_(
    scope: Whose,
    name: Name,
    *,
    limit: Limit = None,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Set somebody's limits, all of them: what is not named is not limited. They hold within a second."""
    if not limit:
        raise typer.BadParameter(
            "name at least one; `turnout limits remove` takes them away", param_hint="--limit"
        )
    change_limits(scope, name, limit, none=False, why=why, json=json, client=Client(url, api_key))


def remove(
    scope: Whose,
    name: Name,
    *,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Take somebody's limits away."""
    change_limits(scope, name, None, none=True, why=why, json=json, client=Client(url, api_key))


def change_limits(
    scope: str, name: str, limit: list[str] | None, *, none: bool, why: str | None, json: bool, client: Client
) -> None:
    """Set limits, take them away, or show them when there is nothing to change.

    Raises:
        typer.BadParameter: both are asked for, or a limit is not written as one.
    """
    if none and limit:
        raise typer.BadParameter("either --limit or --none", param_hint="--none")
    wanted = parse_limits(limit or ())
    path = _path(scope, name)
    with client as api:
        if none:
            api.call("DELETE", path, params={"why": why})
            found = None
        elif wanted:
            found = api.call("PUT", path, params={"why": why}, body=wanted)[1]
        else:
            found = api.find(path)
    if found is None:
        print_json({"scope": scope, "name": name, "limits": None}) if json else note(
            f"{scope} {name}: no limits"
        )
    else:
        _print(found, json=json)


def parse_limits(given: Iterable[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` as a document; whether the names are right the gateway says.

    Raises:
        typer.BadParameter: one is not written so, or named twice.
    """
    wanted: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or name in wanted:
            raise typer.BadParameter(
                f"write {one!r} like requests_per_minute=600, once", param_hint="--limit"
            )
        if name in _WORDS:
            wanted[name] = value.strip()
            continue
        try:
            wanted[name] = float(value) if name == "weight" else int(value.replace("_", ""))
        except ValueError:
            raise typer.BadParameter(f"{value!r} is no number, in {one!r}", param_hint="--limit") from None
    return wanted


def limits_line(limits: Mapping[str, Any]) -> str:
    """Return limits in one line."""
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in limits.items()
        if value is not None and value != _DEFAULTS.get(name)
    )


def _print(found: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    typer.echo(f"{found['scope']} {found['name']}: {limits_line(found['limits']) or 'no limits'}")
    for period in ("day", "month"):
        if found[f"spent_{period}"] is not None:
            typer.echo(f"tokens spent this {period} (UTC): {found[f'spent_{period}']}")


def _path(scope: str, name: str) -> str:
    return f"/admin/limits/{scope}/{quote(name, safe='')}"  # tenants may have any printable character
