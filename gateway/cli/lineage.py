"""`turnout adapters show NAME@N --lineage` and `turnout adapters trained-on REQUEST`."""

from typing import Annotated, Any

import typer

from gateway.cli.client import PAGE, Client, segment
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import note, print_fields, print_json, print_table, when


def show_lineage(api: Client, version: str, *, limit: int, json: bool) -> None:
    """Print what a version was made of; `version` is its path in the admin API."""
    found, rows = _whole(api, version, limit)
    if json:
        print_json({**found, "data": rows})
        return
    facts, drift = found["facts"] or {}, found["drift"]
    print_fields(
        [
            ("version", found["adapter"]),
            ("parent", facts.get("parent")),
            ("rows from", facts.get("data_source")),
            ("fingerprint", facts.get("data_fingerprint")),
            ("run", found["run"]),
            ("drift report", None if drift is None else _report(drift)),
            ("rows used", ", ".join(f"{count} {part}" for part, count in sorted(found["rows"].items()))),
        ]
    )
    if found["run"] is None:
        note("No run of the loop made it, so there is no list of the requests that it learned from.")
    elif rows:
        print_table(
            ["ROW", "FOR", "KIND", "STATE", "TRUSTED", "REQUEST"],
            [
                [row["row_id"], row["part"], row["kind"], row["state"], row["trusted"], _requests(row)]
                for row in rows
            ],
        )
    if found["next_after"] is not None:
        note(f"There are more: --limit {2 * limit}.")


def trained_on(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="A request's x-request-id.")],
    *,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Name the versions that learned from a request, or were judged by it."""
    with Client(url, api_key) as api:
        found = api.get(f"/admin/requests/{segment(request_id)}/versions")
    if json:
        print_json(found)
        return
    print_fields(
        [
            ("request", found["request_id"]),
            ("route", found["route"]),
            ("trained on it", ", ".join(found["trained"]) or "none"),
            ("judged by it", ", ".join(found["judged"]) or "none"),
            ("maybe trained on it", ", ".join(found["possibly"]) or "none"),
        ]
    )


def _whole(api: Client, version: str, limit: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the lineage, and so many of its rows from as many pages as they take."""
    found: dict[str, Any] = api.get(f"{version}/lineage", limit=min(limit, PAGE))
    rows = list(found["data"])
    while found["next_after"] is not None and len(rows) < limit:
        more = api.get(f"{version}/lineage", limit=min(limit - len(rows), PAGE), after=found["next_after"])
        rows += more["data"]
        found["next_after"] = more["next_after"]
    return found, rows


def _report(drift: dict[str, Any]) -> str:
    said = drift["severity"] or drift["verdict"]
    return f"{drift['id']}: {said} on {drift['route']} ({when(drift['at'])})"


def _requests(row: dict[str, Any]) -> str:
    return " and ".join(each for each in (row["request_id"], row["other_id"]) if each)
