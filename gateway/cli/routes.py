"""`turnout routes`: what traffic meets, and how it changes."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import route_answers
from gateway.cli.client import Client, segment
from gateway.cli.experiments import (
    abort,
    experiment_fields,
    pause,
    plan,
    plan_lines,
    print_experiment,
    resume,
)
from gateway.cli.group import CliError, Group
from gateway.cli.options import DEFAULT_TIMEOUT_S, DEFAULT_URL, ApiKey, Json, Timeout, Url, Wait, Why
from gateway.cli.output import arms as write_arms
from gateway.cli.output import note, print_fields, print_json, print_table, when
from gateway.cli.route_files import RouteFileError, read_arms, read_routes, read_shadow
from gateway.cli.waiting import wait_for_route

Name = Annotated[str, typer.Argument(metavar="ROUTE", help="The route.")]


class Sticky(StrEnum):
    """What keeps a caller on one arm."""

    SUBJECT = "subject"
    KEY = "key"
    TENANT = "tenant"
    NONE = "none"


class CaptureMode(StrEnum):
    """Whether prompts and answers are recorded."""

    OFF = "off"
    SAMPLED = "sampled"
    FULL = "full"


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="List, show and change routes.")
    group.command("set")(set_)
    group.command()(apply)
    group.command("list")(list_)
    group.command()(show)
    group.command()(promote)
    group.command()(rollback)
    group.command()(plan)
    group.command()(pause)
    group.command()(resume)
    group.command()(abort)
    group.command()(history)
    group.command()(delete)
    route_answers.mount(group)
    return group


def set_(
    route: Name,
    arms: Annotated[list[str], typer.Argument(metavar="NAME@N[=SHARE]…", help="Versions and their shares.")],
    *,
    sticky: Annotated[Sticky | None, typer.Option(help="What keeps a caller on one arm.")] = None,
    capture: Annotated[CaptureMode | None, typer.Option(help="Which prompts and answers to record.")] = None,
    capture_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="The share that --capture sampled records.")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="NAME@N=SHARE", help="A version that answers a share once more; none ends it."),
    ] = None,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Set the arms of a route, new or known. Arms without a share divide what is left equally.

    The rest of a known route's spec stays, but a canary ends.
    """
    try:
        wanted = read_arms(arms)
    except RouteFileError as error:
        raise typer.BadParameter(str(error), param_hint="NAME@N[=SHARE]") from error
    try:
        wanted_shadow = read_shadow(shadow) if shadow is not None else None
    except RouteFileError as error:
        raise typer.BadParameter(str(error), param_hint="--shadow") from error
    with Client(url, api_key) as api:
        path = f"/admin/routes/{segment(route)}"
        known = api.find(path)
        spec: dict[str, Any] = {**(known["spec"] if known else {}), "arms": wanted, "canary": None}
        if shadow is not None:
            spec["shadow"] = wanted_shadow
        if sticky is not None:
            spec["sticky"] = sticky.value
        if capture is not None or capture_share is not None:
            changed = {"mode": capture and capture.value, "share": capture_share}
            given = {field: value for field, value in changed.items() if value is not None}
            spec["capture"] = {**spec.get("capture", {}), **given}
        headers = {"If-Match": f'"{known["generation"]}"'} if known else None
        _put(api, route, spec, why=why, headers=headers, wait_s=timeout if wait else None, json=json)


def apply(
    file: Annotated[str, typer.Option("--file", "-f", help="A JSON or TOML file; - reads stdin.")],
    *,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make the routes of a file so. Applying it again changes nothing; routes it does not name stay."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        specs = read_routes(text)
    except (OSError, UnicodeDecodeError, RouteFileError) as error:
        raise CliError(f"{file}: {error}") from error
    done: list[dict[str, Any]] = []
    with Client(url, api_key) as api:
        for name, spec in specs.items():
            status, route = api.call(
                "PUT", f"/admin/routes/{segment(name)}", params={"why": why}, body={"spec": spec}
            )
            done.append({**route, "changed": status == 202})
        if wait:
            done = [
                {
                    **wait_for_route(api, one["name"], generation=one["generation"], timeout_s=timeout),
                    "changed": one["changed"],
                    "plan": one["plan"],
                }
                for one in done
            ]
    if json:
        print_json({"data": done})
        return
    for one in done:
        typer.echo(f"{one['name']}: {_outcome(one, changed=one['changed'])}")
        _say_plan(one["plan"])


def list_(*, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List routes with what traffic meets now."""
    with Client(url, api_key) as api:
        rows = list(api.pages_after("/admin/routes"))
    if json:
        print_json({"data": rows})
    elif not rows:
        note("No routes yet: `turnout routes set ROUTE NAME@N` makes one.")
    else:
        print_table(
            ["ROUTE", "STATE", "TRAFFIC MEETS", "WANTED", "STICKY", "GENERATION", "REASON"],
            [
                [
                    route["name"],
                    route["status"]["state"],
                    write_arms(route["status"]["effective_arms"]),
                    write_arms(route["spec"]["arms"]),
                    route["spec"]["sticky"],
                    route["generation"],
                    route["status"]["reason"],
                ]
                for route in rows
            ],
        )


def show(route: Name, *, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show one route: its spec, its status, and what its experiment says."""
    with Client(url, api_key) as api:
        found = api.get(f"/admin/routes/{segment(route)}")
        experiment = {} if json else api.get(f"/admin/experiments/{segment(route)}")
    if json:
        print_json(found)
        return
    spec, status = found["spec"], found["status"]
    shadow, capture = spec["shadow"], spec["capture"]
    print_fields(
        [
            ("route", found["name"]),
            ("state", status["state"]),
            ("reason", status["reason"] or found.get("fault")),
            ("traffic meets", write_arms(status["effective_arms"])),
            ("wanted arms", write_arms(spec["arms"])),
            ("generation", f"{found['generation']} (active: {status['active_generation'] or 'none yet'})"),
            ("sticky", spec["sticky"]),
            *experiment_fields(found),
            ("shadow", shadow and f"{shadow['adapter']} {shadow['share']:g}"),
            ("capture", f"{capture['mode']}, share {capture['share']:g}, redact {capture['redact']}"),
            ("metrics", ", ".join(spec["metrics"])),
            ("fallback", spec["fallback"]),
        ]
    )
    print_experiment(experiment, now=time.time())


def promote(
    route: Name,
    version: Annotated[str | None, typer.Argument(metavar="[NAME@N]", help="The canary by default.")] = None,
    *,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Give all traffic of a route to one version."""
    with Client(url, api_key) as api:
        status, found = api.call(
            "POST",
            f"/admin/routes/{segment(route)}/promote",
            params={"why": why},
            body={"adapter": version},
        )
        _finish(api, status, found, wait_s=timeout if wait else None, json=json)


def rollback(
    route: Name,
    *,
    to_generation: Annotated[
        int | None, typer.Option(min=1, help="The generation to go back to; the one before by default.")
    ] = None,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Bring back an earlier spec of a route. A second rollback undoes the first."""
    with Client(url, api_key) as api:
        status, found = api.call(
            "POST",
            f"/admin/routes/{segment(route)}/rollback",
            params={"why": why},
            body={"to_generation": to_generation},
        )
        _finish(api, status, found, wait_s=timeout if wait else None, json=json)


def history(
    route: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many changes at most.")] = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List what happened to a route, newest first."""
    with Client(url, api_key) as api:
        page = api.get(f"/admin/routes/{segment(route)}/history", limit=limit)
    if json:
        print_json(page)
        return
    print_table(
        ["GENERATION", "AT", "WHO", "WHAT", "ARMS", "WHY"],
        [
            [
                event["generation"],
                when(event["at"]),
                event["actor"],
                event["action"].removeprefix("route."),
                _arms_of(event["after"]),
                event["why"],
            ]
            for event in page["data"]
        ],
    )


def delete(route: Name, *, why: Why = None, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Delete a route. Its versions and its history stay."""
    with Client(url, api_key) as api:
        api.call("DELETE", f"/admin/routes/{segment(route)}", params={"why": why})
    typer.echo(f"{route} deleted")


def _put(
    api: Client,
    route: str,
    spec: dict[str, Any],
    *,
    why: str | None,
    headers: dict[str, str] | None,
    wait_s: float | None,
    json: bool,
) -> None:
    status, found = api.call(
        "PUT", f"/admin/routes/{segment(route)}", params={"why": why}, body={"spec": spec}, headers=headers
    )
    _finish(api, status, found, wait_s=wait_s, json=json)


def _finish(api: Client, status: int, route: dict[str, Any], *, wait_s: float | None, json: bool) -> None:
    planned = route.get("plan")
    if wait_s is not None:
        route = wait_for_route(api, route["name"], generation=route["generation"], timeout_s=wait_s)
    if json:
        print_json(route)
    else:
        typer.echo(f"{route['name']}: {_outcome(route, changed=status == 202)}")
        _say_plan(planned)


def _say_plan(plan: dict[str, Any] | None) -> None:
    for line in plan_lines(plan) if plan else ():
        typer.echo(f"  {line}")


def _outcome(route: dict[str, Any], *, changed: bool) -> str:
    what = "changed" if changed else "unchanged"
    state = route["status"]["state"]
    return f"{what}, generation {route['generation']}, {state}, arms {write_arms(route['spec']['arms'])}"


def _arms_of(document: Any) -> str:
    if not isinstance(document, dict):
        return "-"
    return write_arms(document.get("effective_arms") or document.get("arms") or ())
