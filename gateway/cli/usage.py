"""`turnout usage`: requests and tokens by key, tenant, route and version, as a table, JSON or CSV."""

import csv
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import note, print_json, print_table

_UNITS_S = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_COLUMNS = {"key": "key_id", "tenant": "tenant", "route": "route", "version": "adapter"}
_SUMS = ("requests", "errors", "prompt_tokens", "completion_tokens")
_SHOWN_ROWS = 1000


def usage(
    *,
    since: Annotated[
        str,
        typer.Option(help="From when: 24h, 7d, 4w, a date such as 2026-11-01, or seconds since the epoch."),
    ] = "24h",
    until: Annotated[str | None, typer.Option(help="To when, likewise; now by default.")] = None,
    bucket: Annotated[str | None, typer.Option(help="One row for each: hour or day, of UTC.")] = None,
    by: Annotated[
        str, typer.Option(help="What to sum by: of key, tenant, route and version, with commas between.")
    ] = "key,route,version",
    key: Annotated[str | None, typer.Option(help="Only this key's id.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    route: Annotated[str | None, typer.Option(help="Only this route.")] = None,
    version: Annotated[str | None, typer.Option(help="Only this version, such as support@3.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all of it.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show requests and tokens by key, route and version. Usage outlives the recorded requests."""
    if json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    now = time.time()
    params = {
        "since": moment(since, now=now),
        "until": None if until is None else moment(until, now=now),
        "bucket": bucket,
        "group_by": by,
        "key": key,
        "tenant": tenant,
        "route": route,
        "version": version,
    }
    groups = [name for name in _COLUMNS if name in {part.strip() for part in by.split(",")}]
    with Client(url, api_key) as api:
        rows = api.pages_after("/admin/usage", at_most=None if json or as_csv else _SHOWN_ROWS, **params)
        if as_csv:
            _print_csv(rows, groups, bucketed=bucket is not None)
            return
        found = list(rows)
    if json:
        print_json({"since": params["since"], "until": params["until"], "bucket": bucket, "data": found})
        return
    headers = [*(["FROM"] if bucket else []), *(name.upper() for name in groups)]
    print_table(
        [*headers, *(name.replace("_", " ").upper() for name in _SUMS)], _cells(found, groups, bucket)
    )
    if len(found) == _SHOWN_ROWS:
        note(f"only the first {_SHOWN_ROWS} rows; --csv and --json have all of them")


def moment(text: str, *, now: float) -> float:
    """Return a time that a person wrote, in seconds since the epoch.

    Raises:
        CliError: it is none.
    """
    if ago := re.fullmatch(r"(\d{1,6})([hdw])", text):
        return max(0.0, now - int(ago[1]) * _UNITS_S[ago[2]])
    if re.fullmatch(r"\d{5,11}(\.\d+)?", text):
        return float(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(
            f"{text!r} is no time; write 24h, 7d, 4w, 2026-11-01, 2026-11-01T12:00 or seconds since the epoch"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _cells(rows: Iterable[dict[str, Any]], groups: list[str], bucket: str | None) -> Iterable[list[object]]:
    for row in rows:
        begins = [_begin(row["at"], bucket)] if bucket else []
        yield [*begins, *(_group(row, name) for name in groups), *(f"{row[name]:,}" for name in _SUMS)]


def _begin(at: float, bucket: str) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d" if bucket == "day" else "%Y-%m-%d %H:00Z")


def _group(row: dict[str, Any], name: str) -> str | None:
    value = row[_COLUMNS[name]]
    return f"{value} ({row['label']})" if name == "key" and row["label"] else value


def _print_csv(rows: Iterable[dict[str, Any]], groups: list[str], *, bucketed: bool) -> None:
    columns = [_COLUMNS[name] for name in groups]
    labels = ["label"] if "key" in groups else []
    names = [*(["at"] if bucketed else []), *columns, *labels, *_SUMS]
    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        at = {"at": datetime.fromtimestamp(row["at"], UTC).isoformat()} if bucketed else {}
        writer.writerow({name: _inert(value) for name, value in {**row, **at}.items()})


def _inert(value: Any) -> Any:
    """Keep a spreadsheet from taking a label for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"} else value
