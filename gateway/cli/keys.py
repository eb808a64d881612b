"""`turnout keys`: make, list and revoke API keys. The first one is made without a gateway."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.group import CliError, Group
from gateway.cli.options import DEFAULT_URL, ApiKey, Config, Json, Url, Why
from gateway.cli.output import note, print_json, print_table, when

DAY_S = 86_400.0


class RoleName(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    FEEDBACK = "feedback"
    ADMIN = "admin"
    INTERNAL = "internal"


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Make, list and revoke API keys.")
    group.command()(create)
    group.command("list")(list_)
    group.command()(revoke)
    return group


def create(
    *,
    role: Annotated[
        list[RoleName] | None, typer.Option(help="May be given several times.  [default: inference]")
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose requests these are.")] = "default",
    expires_days: Annotated[float | None, typer.Option(min=0.0, help="Valid for so many days.")] = None,
    config: Config = None,
    json: Json = False,
    url: Annotated[str | None, typer.Option(envvar="TURNOUT_URL", help=f"[default: {DEFAULT_URL}]")] = None,
    api_key: ApiKey = None,
) -> None:
    """Make a key and print it, this once.

    While the store of the settings holds no key at all, the first one is made there directly, with every
    role; run this in the folder of turnout.toml, on the gateway's machine.
    """
    body = {
        "roles": sorted({one.value for one in role}) if role else None,
        "label": label,
        "tenant": tenant,
        "expires_in_days": expires_days,
    }
    made = None if url or api_key else _first_key(config, body)
    if made is None:
        with Client(url or DEFAULT_URL, api_key) as api:
            given = {name: value for name, value in body.items() if value is not None}
            _, made = api.call("POST", "/admin/keys", body=given)
    if json:
        print_json(made)
        return
    typer.echo(made["key"])
    roles = ", ".join(made["roles"])
    note(f"The key {made['id']} may do: {roles}. It is shown this once; keep it safe.")
    if "admin" in made["roles"]:
        note("For this command line: export TURNOUT_API_KEY=<the key>")


def list_(*, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List keys, without their text."""
    with Client(url, api_key) as api:
        page = api.get("/admin/keys")
    if json:
        print_json(page)
    elif not page["data"]:
        note("No keys yet: `turnout keys create` makes the first, with every role.")
    else:
        print_table(
            ["ID", "STATE", "ROLES", "LABEL", "TENANT", "CREATED", "EXPIRES"],
            [
                [
                    key["id"],
                    "valid" if key["valid"] else "revoked" if key["revoked_at"] else "expired",
                    ", ".join(key["roles"]),
                    key["label"],
                    key["tenant"],
                    when(key["created_at"]),
                    when(key["expires_at"]),
                ]
                for key in page["data"]
            ],
        )


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")],
    *,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Revoke a key. The gateway refuses it from then on."""
    if key_id.startswith("tk-"):
        raise typer.BadParameter(
            "name the key by its id, the part after 'tk-'; never type a key", param_hint="ID"
        )
    with Client(url, api_key) as api:
        _, found = api.call("DELETE", f"/admin/keys/{segment(key_id)}", params={"why": why})
    if json:
        print_json(found)
    else:
        typer.echo(f"{key_id} revoked")


def _first_key(config: Path | None, body: dict[str, Any]) -> dict[str, Any] | None:
    """Make the first key in the store of the settings; None when that store has keys already."""
    from gateway.auth import load_pepper, mint  # noqa: PLC0415 - a second that other commands need not pay
    from gateway.core.requests import Role  # noqa: PLC0415
    from gateway.settings import SettingsError, load  # noqa: PLC0415
    from gateway.store.control import ControlStore  # noqa: PLC0415
    from gateway.store.database import Database, StoreUnavailable  # noqa: PLC0415

    roles = body["roles"] or [role.value for role in Role]
    days = body["expires_in_days"]
    try:
        settings = load(config)
        database = Database(settings.control_url, "control")
        try:
            database.migrate()
            keys = ControlStore(database).keys
            if keys.count():
                return None
            if Role.ADMIN.value not in roles:
                raise CliError("the first key needs the role admin: add --role admin, or leave --role out")
            text, row = mint(
                label=body["label"],
                tenant=body["tenant"],
                roles=[Role(role) for role in roles],
                pepper=load_pepper(settings.state_dir),
                expires_at=None if days is None else time.time() + days * DAY_S,
            )
            keys.add(row, actor="cli")
        finally:
            database.close()
    except (SettingsError, StoreUnavailable, OSError, ValueError) as error:
        raise CliError(str(error)) from error
    note(f"The first key, made in the store of {settings.state_dir.absolute()}.")
    return {
        "id": row.id,
        "label": row.label,
        "tenant": row.tenant,
        "roles": sorted(roles),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": None,
        "valid": True,
        "key": text,
    }
