"""`turnout audit`: who changed what, from where and when; as a list, and as JSON lines to keep elsewhere."""

import json as json_module
from typing import Annotated, Any

import typer

from gateway.cli.client import PAGE, Client
from gateway.cli.group import Group
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import note, print_json, print_table, when

Subject = Annotated[
    str | None, typer.Option(help="Only what concerns this route, version or key's id.", show_default=False)
]
Actor = Annotated[
    str | None,
    typer.Option(help="Only what this key's id, or part of the gateway, has done.", show_default=False),
]


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Read the audit log: who changed what, and when."
    )
    group.command("list")(list_)
    group.command()(export)
    return group


def list_(
    *,
    subject: Subject = None,
    actor: Actor = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as key.revoke.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List what was changed, the newest first."""
    with Client(url, api_key) as api:
        params = {"subject": subject, "actor": actor, "action": action, "limit": limit}
        _, page = api.call("GET", "/admin/events", params=params)
    if json:
        print_json(page)
        return
    print_table(
        ["ID", "WHEN", "WHO", "FROM", "ACTION", "SUBJECT", "WHY"],
        [
            [
                event["id"],
                when(event["at"]),
                _who(event),
                event["address"],
                event["action"],
                event["subject"],
                event["why"],
            ]
            for event in page["data"]
        ],
    )


def export(
    *,
    after: Annotated[
        int, typer.Option(min=0, help="Begin behind this event: the id of the last line that you have.")
    ] = 0,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Print the whole log as JSON lines, the oldest first, each with the documents before and after.

    To copy it on, give the last line's id as --after the next time.
    """
    count = 0
    with Client(url, api_key) as api:
        following: int | None = after
        while following is not None:
            _, page = api.call("GET", "/admin/events", params={"after_id": following, "limit": PAGE})
            for event in page["data"]:
                typer.echo(json_module.dumps(event, ensure_ascii=False, separators=(",", ":")))
            count += len(page["data"])
            following = page["next_after_id"]
    note(f"{count} events")


def _who(event: dict[str, Any]) -> str:
    return f"{event['actor']} ({event['actor_name']})" if event["actor_name"] else str(event["actor"])
