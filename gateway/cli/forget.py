"""`turnout data forget`: remove what was recorded of a subject, and name what has learned from it."""

from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url, Why
from gateway.cli.output import note, print_fields, print_json


def forget(
    *,
    subject: Annotated[
        str | None,
        typer.Option(
            help="As clients name it: the header x-turnout-subject, or the body's user.", show_default=False
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Remove again whatever came back of anybody who is forgotten.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Remove a subject's requests, feedback, embeddings, curated rows and shadow pairs. It can't be undone.

    Versions that learned from them are named: their weights keep what they learned until they are trained
    anew. The subject itself is stored nowhere; do not name it in --why.
    """
    if (subject is None) is not sweep:
        raise typer.BadParameter("name one subject, or say --sweep", param_hint="--subject")
    if sweep and dry_run:
        raise typer.BadParameter("--sweep has no dry run", param_hint="--dry-run")
    with Client(url, api_key) as api:
        body = {"subject": subject, "dry_run": True}
        if not yes and not dry_run and not sweep:
            if json:
                raise CliError("with --json nobody is asked; add --yes or --dry-run")
            _print(api.call("POST", "/admin/forget", body=body)[1])
            typer.confirm("Remove all of this for ever?", abort=True)
        if dry_run:
            _, found = api.call("POST", "/admin/forget", body=body)
        else:
            found = _done(api, subject, why=why)
    if json:
        print_json(found)
    else:
        _print(found)


def _done(api: Client, subject: str | None, *, why: str | None) -> dict[str, Any]:
    """Ask again until everything is removed: each call works for a while."""
    path = "/admin/forget/sweep" if subject is None else "/admin/forget"
    body = None if subject is None else {"subject": subject}
    while True:
        _, found = api.call("POST", path, params={"why": why}, body=body)
        if found["complete"]:
            return dict(found)
        note(f"removed so far: {_counts(found)}")


def _print(found: dict[str, Any]) -> None:
    print_fields(
        [
            ("would remove" if found["dry_run"] else "removed", _counts(found)),
            ("on routes", ", ".join(found["routes"]) or "none"),
            ("in the log as", found["name"]),
            ("trained on it", ", ".join(found["trained"]) or "no version that is known"),
            ("maybe trained on it", ", ".join(found["possibly"]) or "no version that is known"),
        ]
    )
    if found["advice"]:
        note(found["advice"])


def _counts(found: dict[str, Any]) -> str:
    said = [f"{count} {name.replace('_', ' ')}" for name, count in sorted(found["counts"].items()) if count]
    return ", ".join(said) or "nothing"
