"""`turnout keys`: make, list, show, rotate and revoke API keys. The first one is made without a gateway."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.group import CliError, Group
from gateway.cli.limits import Limit, change_limits, limits_line, parse_limits
from gateway.cli.options import DEFAULT_URL, ApiKey, Config, Json, Url, Why
from gateway.cli.output import note, print_fields, print_json, print_table, when

DAY_S = 86_400.0


class RoleName(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    FEEDBACK = "feedback"
    TRAINER = "trainer"
    ADMIN = "admin"
    INTERNAL = "internal"


KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        help="Make, list, show, rotate and revoke API keys (docs/keys.md).",
    )
    group.command()(create)
    group.command("list")(list_)
    group.command()(show)
    group.command()(limits)
    group.command()(rotate)
    group.command()(revoke)
    return group


def create(
    *,
    role: Annotated[
        list[RoleName] | None,
        typer.Option(
            help="inference asks models, feedback rates answers, trainer adds adapters, admin does all "
            "under /admin, internal marks its requests as not to be counted. May be given several times.  "
            "[default: inference]"
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may use: a route ('support', 'team-*'), a version ('support@3', 'support@*') or "
            "'base', the base model. May be given several times; without it, everything. Quote the stars."
        ),
    ] = None,
    limit: Limit = None,
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
        "models": list(model) if model else None,
        "limits": parse_limits(limit or ()) or None,
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
    if made["models"] is not None:
        note(f"It may use: {', '.join(made['models'])}.")
    if "admin" in made["roles"]:
        note("For this command line: export TURNOUT_API_KEY=<the key>")


def list_(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's keys.")] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List keys, without their text."""
    with Client(url, api_key) as api:
        page = api.call("GET", "/admin/keys", params={"tenant": tenant})[1]
    if json:
        print_json(page)
    elif not page["data"]:
        note("No keys yet: `turnout keys create` makes the first, with every role.")
    else:
        print_table(
            ["ID", "STATE", "ROLES", "LABEL", "TENANT", "MODELS", "CREATED", "EXPIRES"],
            [
                [
                    key["id"],
                    _state(key),
                    ", ".join(key["roles"]),
                    key["label"],
                    key["tenant"],
                    _models(key),
                    when(key["created_at"]),
                    when(key["expires_at"]),
                ]
                for key in page["data"]
            ],
        )


def show(key_id: KeyId, *, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show one key, without its text."""
    with Client(url, api_key) as api:
        key = api.get(f"/admin/keys/{_id(key_id)}")
    if json:
        print_json(key)
        return
    print_fields(
        [
            ("id", key["id"]),
            ("state", _state(key)),
            ("roles", ", ".join(key["roles"])),
            ("models", _models(key)),
            ("limits", limits_line(key.get("limits") or {})),
            ("label", key["label"]),
            ("tenant", key["tenant"]),
            ("created", when(key["created_at"])),
            ("expires", when(key["expires_at"])),
            ("revoked", when(key["revoked_at"])),
            ("rotated", when(key["rotated_at"])),
            ("old text good until", when(key["previous_until"])),
            ("pepper", key["pepper"]),
        ]
    )


def limits(
    key_id: KeyId,
    *,
    limit: Limit = None,
    none: Annotated[bool, typer.Option("--none", help="Take its limits away.")] = False,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Set a key's own limits, all of them, or show them. They hold everywhere within a second."""
    change_limits("key", _id(key_id), limit, none=none, why=why, json=json, client=Client(url, api_key))


def rotate(
    key_id: KeyId,
    *,
    grace_hours: Annotated[
        float,
        typer.Option(min=0.0, max=720.0, help="How long the old text stays good; 0 ends it at once."),
    ] = 24.0,
    expires_days: Annotated[
        float | None, typer.Option(min=0.0, help="The key's new end, in days from now; else it stays.")
    ] = None,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Give a key a new text and print it, this once. Its id, usage and limits stay.

    Put the new text in place within the grace period. A text that has leaked is ended with --grace-hours 0.
    """
    body = {"grace_hours": grace_hours, "expires_in_days": expires_days}
    given = {name: value for name, value in body.items() if value is not None}
    with Client(url, api_key) as api:
        _, made = api.call("POST", f"/admin/keys/{_id(key_id)}/rotate", params={"why": why}, body=given)
    if json:
        print_json(made)
        return
    typer.echo(made["key"])
    until = made["previous_until"]
    old = "The old text is refused now" if until is None else f"The old text is good until {when(until)}"
    note(f"{old}. This one is shown this once; keep it safe.")


def revoke(
    key_id: KeyId,
    *,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Revoke a key. Every worker on every machine refuses it within a second."""
    with Client(url, api_key) as api:
        _, found = api.call("DELETE", f"/admin/keys/{_id(key_id)}", params={"why": why})
    if json:
        print_json(found)
    else:
        typer.echo(f"{key_id} revoked")


def _id(text: str) -> str:
    """Return a key's id as a part of a path.

    Raises:
        typer.BadParameter: it is a key, which nobody should type where others read along.
    """
    if text.startswith("tk-"):
        raise typer.BadParameter(
            "name the key by its id, the part after 'tk-'; never type a key", param_hint="ID"
        )
    return segment(text)


def _state(key: dict[str, Any]) -> str:
    if key["valid"]:
        return "rotating" if key["previous_until"] else "valid"
    return "revoked" if key["revoked_at"] else "expired"


def _models(key: dict[str, Any]) -> str:
    return "everything" if key["models"] is None else ", ".join(key["models"]) or "nothing"


def _first_key(config: Path | None, body: dict[str, Any]) -> dict[str, Any] | None:
    """Make the first key in the store of the settings; None when that store has keys already."""
    from gateway.api.limit_schemas import KeyLimits  # noqa: PLC0415 - a second that others need not pay
    from gateway.auth import mint  # noqa: PLC0415 - as above
    from gateway.core.requests import Role  # noqa: PLC0415
    from gateway.peppers import Peppers  # noqa: PLC0415
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
            _require_patterns(body["models"] or ())
            limits = KeyLimits.model_validate(body["limits"] or {}).stored()
            text, row = mint(
                label=body["label"],
                tenant=body["tenant"],
                roles=[Role(role) for role in roles],
                models=body["models"],
                limits=limits,
                pepper=Peppers.load(settings.state_dir, settings.auth.pepper_file).current,
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
        "models": body["models"],
        "limits": limits,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": None,
        "rotated_at": None,
        "previous_until": None,
        "pepper": row.pepper,
        "valid": True,
        "key": text,
    }


def _require_patterns(models: list[str] | tuple[str, ...]) -> None:
    from gateway.core.scopes import valid_pattern  # noqa: PLC0415 - as above

    for pattern in models:
        if not valid_pattern(pattern):
            raise CliError(f"{pattern!r} is no pattern; see `turnout keys create --help`")
