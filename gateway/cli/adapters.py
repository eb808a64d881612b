"""`turnout adapters`: add, list, show, verify and retire versions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.group import Group
from gateway.cli.lineage import show_lineage, trained_on
from gateway.cli.options import DEFAULT_TIMEOUT_S, DEFAULT_URL, ApiKey, Json, Timeout, Url, Wait, Why
from gateway.cli.output import note, print_fields, print_json, print_table, size, when
from gateway.cli.progress import following
from gateway.cli.verify import verify
from gateway.cli.waiting import wait_for_adapter

DEFAULT_ROWS = 100
_HEADERS = (
    "VERSION",
    "STATE",
    "DIGEST",
    "ATTESTED ON",
    "HOME",
    "IN MEMORY (ESTIMATE)",
    "LAST PROOF",
    "ROUTES",
    "REQUESTS 24H",
    "TOKENS 24H",
    "COLD LOADS",
    "EVICTIONS",
    "RANK",
    "SIZE",
    "ADDED",
)
Version = Annotated[str, typer.Argument(metavar="NAME@N", help="The version.")]


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Add, list, show, verify and retire adapter versions."
    )
    group.command()(add)
    group.command("list")(list_)
    group.command()(show)
    group.command()(verify)
    group.command()(retire)
    group.command()(gc)
    group.command("trained-on")(trained_on)
    return group


def add(
    name: Annotated[str, typer.Argument(help="The adapter's name; the version is numbered by itself.")],
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or a tar on the gateway's machine, s3://bucket/key, gs://bucket/key, "
            "https://host/file.tar.gz or hf://org/repo[@revision]."
        ),
    ],
    *,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Add the adapter that SOURCE names as the next version of NAME. Known content is the same version."""
    with Client(url, api_key) as api:
        place = source if "://" in source else str(Path(source).expanduser().absolute())
        with following(f"adding {name}") as heard:
            status, version = api.follow(
                "/admin/adapters", body={"name": name, "source": place, "why": why}, heard=heard
            )
        if wait:
            number = version["version"]
            version = wait_for_adapter(api, version["name"], number, timeout_s=timeout)
    if json:
        print_json(version)
        return
    label = version["adapter"]
    typer.echo(f"{label} {'added' if status == 201 else 'was there already'} ({size(version['size_bytes'])})")
    if label not in version["routes"] and not version["routes"]:
        note(f"No route names it yet: `turnout routes set {name} {label}` gives it traffic.")


def list_(
    name: Annotated[str | None, typer.Argument(help="Only this adapter's versions.")] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to list.")] = DEFAULT_ROWS,
    every: Annotated[bool, typer.Option("--all", help="List all of them, however many.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List versions: where they are served, since when it is proved, and a day's requests and tokens."""
    with Client(url, api_key) as api:
        rows = list(api.pages_after("/admin/adapters", at_most=None if every else limit + 1, name=name))
    more = not every and len(rows) > limit
    rows = rows if every else rows[:limit]
    if json:
        print_json({"data": rows, "more": more})
    elif not rows:
        note("No adapters yet: add one with `turnout adapters add NAME SOURCE`.")
    else:
        shown = [_row(row) for row in rows]
        # A column that nobody fills is left out: without placement by demand nothing has a home.
        kept = [n for n in range(len(_HEADERS)) if any(row[n] is not None for row in shown)]
        print_table([_HEADERS[n] for n in kept], [[row[n] for n in kept] for row in shown])
    if more and not json:
        note(f"There are more: --limit {2 * limit}, or --all.")


def show(
    version: Version,
    *,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Show what it was made of: run, rows, requests, drift report.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="With --lineage: how many rows.")
    ] = DEFAULT_ROWS,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show one version: its manifest, its evaluation and where it is served."""
    with Client(url, api_key) as api:
        if lineage:
            show_lineage(api, path_of(version), limit=limit, json=json)
            return
        found = api.get(path_of(version))
    if json:
        print_json(found)
    else:
        _print_version(found)


def retire(
    version: Version,
    *,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Retire a version that no route names. Its number is never used again."""
    with Client(url, api_key) as api:
        _, found = api.call("DELETE", path_of(version), params={"why": why})
    if json:
        print_json(found)
    else:
        typer.echo(f"{found['adapter']} retired")


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    why: Why = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Remove the files of retired versions that no engine can need any more."""
    with Client(url, api_key) as api:
        params = {"dry_run": str(dry_run).lower(), "why": why}
        _, found = api.call("POST", "/admin/adapters/gc", params=params)
    if json:
        print_json(found)
        return
    gone = [blob for blob in found["data"] if blob["kept_because"] is None]
    for blob in gone:
        typer.echo(f"{blob['digest']}  {size(blob['size_bytes'])}")
    verb = "would be removed" if dry_run else "removed"
    freed = size(sum(blob["size_bytes"] for blob in gone))
    note(f"{len(gone)} of {len(found['data'])} blobs {verb} ({freed})")


def path_of(version: str) -> str:
    """Return where the admin API has a version."""
    name, at, number = version.rpartition("@")
    if not at or not name or not number.isdecimal():
        raise typer.BadParameter(f"{version!r} is not a version like 'support@3'", param_hint="NAME@N")
    return f"/admin/adapters/{segment(name)}/{segment(number)}"


def _row(row: dict[str, Any]) -> list[object]:
    attested = [known for known in row["registrations"] if known["current"] and known["state"] == "attested"]
    usage = row["usage"]
    return [
        row["adapter"],
        row["state"],
        row["digest"].removeprefix("sha256:")[:12],
        ", ".join(known["replica"] for known in attested),
        ", ".join(known["replica"] for known in attested if known.get("home")) or None,
        ", ".join(known["replica"] for known in attested if known.get("resident_estimate")) or None,
        when(max((known["at"] for known in attested), default=None)),
        ", ".join(row["routes"]),
        usage["requests"],
        usage["prompt_tokens"] + usage["completion_tokens"],
        row["cold_loads"],
        row["evictions"],
        row["rank"],
        size(row["size_bytes"]),
        when(row["created_at"]),
    ]


def _used(usage: dict[str, Any]) -> str:
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    return (
        f"{usage['requests']} requests, {usage['errors']} of them with errors, {tokens} tokens "
        f"since {when(usage['since'])}"
    )


def _print_version(found: dict[str, Any]) -> None:
    manifest = found["manifest"]
    print_fields(
        [
            ("version", found["adapter"]),
            ("state", found["state"]),
            ("digest", found["digest"]),
            ("base", " ".join(part for part in (found["base"], manifest["base"].get("digest")) if part)),
            ("rank, alpha", f"{manifest['rank']}, {manifest['alpha']:g}"),
            ("modules", ", ".join(manifest["target_modules"])),
            ("weights", f"{manifest['dtype']}, {size(found['size_bytes'])}"),
            ("source", found["source"]),
            ("added", when(found["created_at"])),
            ("retired", when(found["retired_at"])),
            ("routes", ", ".join(found["routes"])),
            ("used", _used(found["usage"])),
        ]
    )
    for known in found["registrations"]:
        state = known["state"] if known["current"] else "gone (the engine was started again)"
        weak = (known["figures"] or {}).get("weak") if known["state"] == "attested" else None
        reason = known["reason"] or (weak and f"weak proof: {weak}")
        because = f": {reason}" if reason else ""
        typer.echo(f"on {known['replica']}  {state}{because} ({when(known['at'])})")
    lineage, evaluation = manifest.get("lineage"), manifest.get("evaluation")
    if lineage:
        typer.echo(f"trained by {lineage['recipe']} on {lineage['data_source']} ({lineage['data_terms']})")
    if evaluation and evaluation["scores"]:
        typer.echo(f"held-out evaluation on {evaluation['rows']} rows, with 95 % intervals:")
        print_table(
            ["SYSTEM", "METRIC", "VALUE", "LOW", "HIGH"],
            [
                [score["system"], score["metric"], *(f"{score[key]:.3f}" for key in ("value", "low", "high"))]
                for score in evaluation["scores"]
            ],
            indent=2,
        )
