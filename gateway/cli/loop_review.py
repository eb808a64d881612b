"""`turnout loop review`: look at proposed rows, and approve, edit or reject them.

At a terminal row after row; with `--approve`, `--reject` or `--edit` without a question; with `--json` the
queue as it is.
"""

import sys
from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url, Why
from gateway.cli.output import note, print_json, print_table

AT_ONCE = 20
SHOWN_CHARS = 4000
_KEYS = "a approve, e edit, r reject, s skip, q quit"


def review(
    route: Annotated[str | None, typer.Argument(metavar="ROUTE", help="Only this route's rows.")] = None,
    *,
    approve: Annotated[
        list[str] | None, typer.Option(help="Let rows count, by their ids; `all` for the whole queue.")
    ] = None,
    reject: Annotated[
        list[str] | None, typer.Option(help="Let rows never count, by their ids; `all` as above.")
    ] = None,
    edit: Annotated[str | None, typer.Option(help="Give this row another answer: --answer.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="With --edit: the answer that is wanted; - reads it.")
    ] = None,
    rubric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=yes|no", help="What is judged: correct, complete, style, safe."),
    ] = None,
    why: Why = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows to list.")] = 50,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Review the rows that wait for a person, the most novel first."""
    decisions = {"approve": approve, "reject": reject, "edit": [edit] if edit else None}
    given = {name: ids for name, ids in decisions.items() if ids}
    if len(given) > 1:
        raise typer.BadParameter("decide one thing at a time", param_hint="--approve, --reject, --edit")
    if (answer is not None) is not (edit is not None):
        raise typer.BadParameter("--edit and --answer go together", param_hint="--answer")
    if answer == "-":
        answer = sys.stdin.read()
    with Client(url, api_key) as api:
        if given:
            name, ids = next(iter(given.items()))
            _decide(
                api, name, _named(api, ids, route), rubric=_rubric(rubric), answer=answer, why=why, json=json
            )
        elif json or not _interactive():
            _list(api, route, limit=limit, json=json)
        else:
            _ask(api, route, why=why)


def _interactive() -> bool:
    return sys.stdin.isatty()


def _list(api: Client, route: str | None, *, limit: int, json: bool) -> None:
    _, found = api.call("GET", "/admin/curation/rows", params={"route": route, "limit": limit})
    if json:
        print_json(found)
        return
    print_table(
        ["ROW", "ROUTE", "KIND", "FOR", "NOVELTY", "PROMPT", "ANSWER"],
        [
            [
                row["id"],
                row["route"],
                row["kind"],
                row["split"],
                None if row["novelty"] is None else f"{row['novelty']:.2f}",
                row["messages"][-1]["content"][:60],
                row["answer"][:60],
            ]
            for row in found["data"]
        ],
    )
    if found["next_offset"] is not None:
        note(f"There are more: --limit {2 * limit}.")


def _named(api: Client, ids: list[str], route: str | None) -> list[str]:
    """Return the rows that are meant; `all` is what waits now, of one route."""
    if ids != ["all"]:
        return ids
    if route is None:
        raise typer.BadParameter("`all` needs a ROUTE", param_hint="ROUTE")
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        _, page = api.call(
            "GET", "/admin/curation/rows", params={"route": route, "limit": 500, "offset": offset}
        )
        found += [row["id"] for row in page["data"]]
        offset = page["next_offset"]
    return found


def _decide(
    api: Client,
    decision: str,
    ids: list[str],
    *,
    rubric: dict[str, bool],
    answer: str | None = None,
    why: str | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    done: list[dict[str, Any]] = []
    for at in range(0, len(ids), 500):
        body = {
            "decision": decision,
            "ids": ids[at : at + 500],
            "rubric": rubric,
            "answer": answer,
            "why": why,
        }
        _, found = api.call("POST", "/admin/curation/decisions", body=body)
        done += found["data"]
    if json:
        print_json({"data": done})
    elif not quiet:
        typer.echo(f"{len(done)} rows: {decision}")


def _ask(api: Client, route: str | None, *, why: str | None) -> None:
    """Show row after row, and ask what becomes of each."""
    skipped: set[str] = set()
    while True:
        _, page = api.call(
            "GET", "/admin/curation/rows", params={"route": route, "limit": AT_ONCE, "offset": len(skipped)}
        )
        rows = [row for row in page["data"] if row["id"] not in skipped]
        if not rows:
            note("Nothing more waits for you.")
            return
        for row in rows:
            if not _one(api, row, page["rubric"], why=why, skipped=skipped):
                return


def _one(
    api: Client, row: dict[str, Any], rubric: dict[str, str], *, why: str | None, skipped: set[str]
) -> bool:
    """Ask about one row; False when the reviewer has had enough."""
    _show(row)
    choice = typer.prompt(f"[{_KEYS}]", default="s", show_default=False).strip().lower()[:1]
    if choice == "q":
        return False
    if choice == "s" or choice not in "aer":
        skipped.add(row["id"])
        return True
    answer = _edited(row["answer"]) if choice == "e" else None
    if choice == "e" and answer is None:
        skipped.add(row["id"])
        return True
    judged = (
        {}
        if choice == "r"
        else {name: typer.confirm(f"{said}?", default=True) for name, said in rubric.items()}
    )
    decision = {"a": "approve", "e": "edit", "r": "reject"}[choice]
    try:
        _decide(api, decision, [row["id"]], rubric=judged, answer=answer, why=why, quiet=True)
    except CliError as error:
        note(str(error))
        skipped.add(row["id"])
    return True


def _edited(answer: str) -> str | None:
    """Return the answer that the reviewer types, one line; None when it was not changed.

    Longer ones: `--edit ROW --answer - < FILE`.
    """
    changed = str(typer.prompt("The answer that is wanted", default=answer, show_default=False)).strip()
    return changed if changed and changed != answer.strip() else None


def _show(row: dict[str, Any]) -> None:
    typer.echo()
    trusted = ", of a trusted key" if row["trusted"] else ""
    typer.echo(f"{row['id']}  {row['route']}: {row['kind']}, for {row['split']}{trusted}")
    for message in row["messages"]:
        typer.echo(f"  {message['role']}: {_plain(message['content'])}")
    typer.echo(f"  answer{' (disliked)' if row['kind'] == 'disliked' else ''}: {_plain(row['answer'])}")
    if row["rejected"]:
        typer.echo(f"  instead of: {_plain(row['rejected'])}")


def _plain(text: str) -> str:
    """Return a text without what would move the terminal's cursor or change its colours."""
    shown = text[:SHOWN_CHARS] + ("…" if len(text) > SHOWN_CHARS else "")
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in shown)


def _rubric(given: list[str] | None) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for text in given or ():
        name, _, said = text.partition("=")
        if said not in ("yes", "no"):
            raise typer.BadParameter(f"{text!r} is not of the form correct=yes", param_hint="--rubric")
        found[name] = said == "yes"
    return found
