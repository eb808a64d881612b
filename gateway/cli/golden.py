"""`turnout data golden`: the golden sets of routes, from files and from reviewed rows."""

import json as json_module
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, segment
from gateway.cli.group import CliError, Group
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url, Why
from gateway.cli.output import note, print_json, print_table, when

AT_ONCE = 100
BODY_BYTES = 512 * 1024
_OWN = ("messages", "prompt", "completion", "answer", "slices")
Route = Annotated[str, typer.Argument(metavar="ROUTE", help="The route.")]


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="The rows that people chose to judge a route's versions by."
    )
    group.command("list")(list_)
    group.command()(show)
    group.command()(add)
    group.command()(rotate)
    return group


def list_(
    route: Annotated[str | None, typer.Argument(metavar="ROUTE", help="Only this route's sets.")] = None,
    *,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List golden sets: how many rows each has, and how many runs were judged by it."""
    with Client(url, api_key) as api:
        _, found = api.call("GET", "/admin/golden", params={"route": route})
    if json:
        print_json(found)
        return
    print_table(
        ["ROUTE", "SET", "ROWS", "USES", "MADE", "RETIRED", ""],
        [
            [
                one["route"],
                one["number"],
                one["rows"],
                one["uses"],
                when(one["created_at"]),
                when(one["retired_at"]),
                "rotate it: it was used often enough" if one["rotation_due"] else None,
            ]
            for one in found["data"]
        ],
    )


def show(
    route: Route,
    *,
    number: Annotated[int | None, typer.Option("--set", min=1, help="Another than the present set.")] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show the rows of a route's golden set."""
    rows: list[dict[str, Any]] = []
    with Client(url, api_key) as api:
        after: str | None = ""
        while after is not None:
            params = {"number": number, "after": after, "limit": 500}
            _, page = api.call("GET", f"/admin/golden/{segment(route)}", params=params)
            rows += page["data"]
            after = page["next_after"]
    if json:
        print_json({"data": rows})
        return
    print_table(
        ["ROW", "PROMPT", "ANSWER", "SLICES"],
        [
            [
                row["id"],
                row["messages"][-1]["content"][:80],
                row["answer"][:80],
                ", ".join(f"{name}={value}" for name, value in sorted(row["slices"].items())),
            ]
            for row in rows
        ],
    )


def add(
    route: Route,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.jsonl", help="Chats (messages), or prompts with completions."),
    ] = None,
    *,
    row: Annotated[
        list[str] | None, typer.Option(help="A curated row that was reviewed and is held out, by its id.")
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Add rows to a route's golden set. Further fields of a line tell its results apart.

    Rows that are there already are left alone, so to do it again does no harm.
    """
    if file is None and not row:
        raise typer.BadParameter("name a file, or rows with --row", param_hint="FILE.jsonl")
    rows = [] if file is None else list(_read(file))
    parts: list[dict[str, Any]] = [{"rows": some} for some in _parts(rows)]
    if row:
        parts.append({"curated": row})
    added = known = 0
    found: dict[str, Any] = {}
    with Client(url, api_key) as api:
        for body in parts:
            _, found = api.call("POST", f"/admin/golden/{segment(route)}/rows", body=body)
            added += found["added"]
            known += found["known"]
    if json:
        print_json({**found, "added": added, "known": known})
    else:
        typer.echo(f"{added} rows added to set {found['number']} of {route}, {known} were there already")


def rotate(
    route: Route, *, why: Why = None, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Retire a route's golden set, and begin an empty one. Its rows are not trained on afterwards either."""
    with Client(url, api_key) as api:
        _, found = api.call("POST", f"/admin/golden/{segment(route)}/rotate", params={"why": why})
    if json:
        print_json(found)
        return
    typer.echo(f"set {found['number']} of {route} begins; add rows with `turnout data golden add`")
    note("Until it has some, versions are judged by held-out traffic alone.")


def _parts(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in as many bodies as they need: the admin API takes one of a mebibyte."""
    some: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        bytes_ = len(json_module.dumps(row))
        if some and (len(some) == AT_ONCE or size + bytes_ > BODY_BYTES):
            yield some
            some, size = [], 0
        some.append(row)
        size += bytes_
    if some:
        yield some


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as the admin API takes them.

    Raises:
        CliError: a line is none; it is named.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = _row(json_module.loads(line))
        except ValueError:
            found = None
        if found is None:
            raise CliError(
                f"{file}:{number}: a row has messages, the last one the assistant's, or a prompt with its "
                "completion"
            )
        yield found


def _row(line: Any) -> dict[str, Any] | None:
    if not isinstance(line, dict):
        return None
    messages, answer = line.get("messages"), line.get("completion", line.get("answer"))
    if isinstance(messages, list) and messages and answer is None and isinstance(messages[-1], dict):
        answer = messages[-1].get("content") if messages[-1].get("role") == "assistant" else None
        messages = messages[:-1]
    elif isinstance(line.get("prompt"), str):
        messages = [{"role": "user", "content": line["prompt"]}]
    if not isinstance(messages, list) or not messages or not isinstance(answer, str):
        return None
    plain = {name: str(value) for name, value in line.items() if name not in _OWN and value is not None}
    slices = line.get("slices") if isinstance(line.get("slices"), dict) else plain
    return {"messages": messages, "answer": answer, "slices": slices}
