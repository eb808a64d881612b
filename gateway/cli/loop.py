"""`turnout loop`: what the loop does and did, and a person's hand on it."""

import sys
import time
from typing import Annotated, Any

import typer

from gateway.cli.client import PAGE, Client, segment
from gateway.cli.group import CliError, Group
from gateway.cli.loop_review import review
from gateway.cli.options import DEFAULT_TIMEOUT_S, DEFAULT_URL, ApiKey, Json, Timeout, Url, Wait, Why
from gateway.cli.output import age, print_fields, print_json, print_table, when

Route = Annotated[str, typer.Argument(metavar="ROUTE", help="The route.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run, as `turnout loop history` names it.")]
POLL_S = 0.5
GOOD_ENDS = frozenset({"promoted", "dry_run"})


def commands() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, help="Runs from drift or feedback to a trained and served version."
    )
    for command in (status, history, show, approve, reject, review, pause, resume, run):
        group.command()(command)
    group.command()(review)
    return group


def status(
    route: Annotated[str | None, typer.Argument(metavar="[ROUTE]", help="Only this route.")] = None,
    *,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show the loop of each route: what it does, or why nothing begins."""
    with Client(url, api_key) as api:
        page = api.get("/admin/loop", route=route)
    if json:
        print_json(page)
        return
    if not page["data"]:
        typer.echo(f"{'no route' if route is None else route} has a loop: put `loop` into a route's spec")
        return
    now = time.time()
    print_table(
        ["ROUTE", "STATE", "SINCE", "RUN", "CANDIDATE", "WHY"],
        [_status_row(each, now) for each in page["data"]],
    )


def history(
    route: Annotated[str | None, typer.Argument(metavar="[ROUTE]", help="Only this route.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List runs, the newest first."""
    rows: list[dict[str, Any]] = []
    before: str | None = None
    with Client(url, api_key) as api:
        while len(rows) < limit:
            wanted = min(PAGE, limit - len(rows))
            page = api.get("/admin/loop/runs", route=route, limit=wanted, before=before)
            rows += page["data"]
            before = page["next_before"]
            if before is None:
                break
    if json:
        print_json({"data": rows, "next_before": before})
        return
    print_table(
        ["RUN", "ROUTE", "BEGAN", "BY", "STATE", "CANDIDATE", "TOOK", "WHY"],
        [
            [
                each["id"],
                each["route"],
                when(each["created_at"]),
                each["cause"],
                each["state"],
                each["candidate"],
                age((each["ended_at"] or time.time()) - each["created_at"]),
                each["reason"],
            ]
            for each in rows
        ],
    )


def show(run_id: RunId, *, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show one run: what started it, what its steps said, and who approved."""
    with Client(url, api_key) as api:
        found = api.get(f"/admin/loop/{segment(run_id)}")
    if json:
        print_json(found)
    else:
        _print_run(found)


def approve(
    run_id: RunId,
    *,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Approve what a run waits for: that it trains, or that its version meets traffic."""
    with Client(url, api_key) as api:
        _, found = api.call("POST", f"/admin/loop/{segment(run_id)}/approve", params={"why": why})
        if wait:
            found = _await(api, run_id, timeout, lambda run: run["asks"] is None)
    _told(found, json=json)


def reject(
    run_id: RunId,
    *,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """End a run: what works for it is ended, and its version gets no traffic."""
    with Client(url, api_key) as api:
        _, found = api.call("POST", f"/admin/loop/{segment(run_id)}/reject", params={"why": why})
        if wait:
            found = _await(api, run_id, timeout, _over)
    _told(found, json=json)


def pause(
    route: Route, *, why: Why = None, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Begin no run of a route, and no further step of one, until it is resumed."""
    _command("pause", route, why=why, json=json, url=url, api_key=api_key)


def resume(
    route: Route, *, why: Why = None, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Go on with a loop that is paused."""
    _command("resume", route, why=why, json=json, url=url, api_key=api_key)


def run(
    route: Route,
    *,
    why: Why = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; fail when it fails.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="How long --wait waits, in seconds.")] = 86_400.0,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Begin a run now, cooldown or not."""
    with Client(url, api_key) as api:
        _, found = api.call("POST", f"/admin/loop/{segment(route)}/run", params={"why": why})
        if wait:
            found = _await(api, found["id"], timeout, _over)
    _told(found, json=json)
    if wait and found["state"] not in GOOD_ENDS:
        raise CliError(f"{found['id']} is {found['state']}{_because(found['reason'])}")


def _command(name: str, route: str, *, why: str | None, json: bool, url: str, api_key: str | None) -> None:
    with Client(url, api_key) as api:
        _, found = api.call("POST", f"/admin/loop/{segment(route)}/{name}", params={"why": why})
    if json:
        print_json(found)
        return
    typer.echo(f"{route}: the loop is {'paused' if found['paused_at'] else 'not paused'}")


def _await(api: Client, run_id: str, timeout_s: float, done: Any) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    shown = ""
    while True:
        found: dict[str, Any] = api.get(f"/admin/loop/{segment(run_id)}")
        if done(found):
            return found
        said = f"{found['state']}{_because(found['reason'])}"
        if said != shown and sys.stderr.isatty():
            sys.stderr.write(f"  {said} …\n")
        shown = said
        if time.monotonic() >= deadline:
            raise CliError(f"after {timeout_s:g} s {run_id} is {said}")
        time.sleep(POLL_S)


def _over(found: dict[str, Any]) -> bool:
    return found["ended_at"] is not None


def _told(found: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    typer.echo(f"{found['id']} of {found['route']} is {found['state']}{_because(found['reason'])}")


def _status_row(each: dict[str, Any], now: float) -> list[object]:
    if each["run"] is not None:
        run_ = each["run"]
        state = "paused" if each["paused_at"] else run_["state"]
        since = age(max(0.0, now - run_["since"]))
        return [each["route"], state, since, run_["id"], run_["candidate"], run_["reason"]]
    if each["paused_at"]:
        why = f"by {each['paused_by']}{_because(each['why'])}"
        return [each["route"], "paused", age(max(0.0, now - each["paused_at"])), None, None, why]
    left = f" ({age(each['wait_s'])} left)" if each["wait_s"] else ""
    last = each["last"]
    before = f"; the last run was {last['state']}" if last else ""
    return [each["route"], "idle", None, None, None, f"{each['waits']}{left}{before}"]


def _print_run(found: dict[str, Any]) -> None:
    results = found["results"]
    curated, gate = results.get("curate", {}), results.get("gate", {})
    print_fields(
        [
            ("Run", found["id"]),
            ("Route", found["route"]),
            ("State", f"{found['state']}, since {when(found['since'])}"),
            ("Why", found["reason"]),
            ("Asks", found["asks"]),
            ("Began", f"{when(found['created_at'])} by {found['actor']}"),
            ("Trigger", f"{found['trigger']} ({found['cause']})"),
            ("Drift look", found["drift_id"]),
            ("Champion", found["champion"]),
            ("Candidate", found["candidate"]),
            ("Rows", _rows(curated)),
            ("Gate", f"{gate['verdict']}: {gate.get('reason')}" if gate else None),
            ("Driver", gate.get("driver")),
            *(("Note", said) for step in (curated, gate) for said in step.get("notes") or ()),
            *((f"Approved {what}", _who(said)) for what, said in sorted(found["approvals"].items())),
            ("Folder", f"{found['folder']} on {found['host']}" if found["host"] else found["folder"]),
        ]
    )


def _rows(curated: dict[str, Any]) -> str | None:
    if not curated:
        return None
    parts = [f"{curated[name]} {label}" for name, label in _COUNTS if curated.get(name) is not None]
    return f"{curated.get('outcome')}: {', '.join(parts)}"


_COUNTS = (
    ("rows", "to train on"),
    ("new_rows", "new"),
    ("held_out_new", "held out"),
    ("trusted_held_out_new", "of them trusted"),
    ("golden", "golden"),
)


def _who(said: dict[str, Any]) -> str:
    return f"by {said.get('by')} at {when(said.get('at'))}{_because(said.get('why'))}"


def _because(why: str | None) -> str:
    return f": {why}" if why else ""
