"""`--wait`: poll the gateway until a change is in effect, has failed, or the time is up."""

import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.cli.client import Client, segment
from gateway.cli.group import CliError

POLL_S = 0.2
Look = Callable[[], tuple[Any, str]]


def wait_for_route(
    api: Client, name: str, *, generation: int, timeout_s: float, since: float | None = None
) -> dict[str, Any]:
    """Return the route once the traffic of every worker meets the spec of `generation`.

    The time runs from `since`, on the monotonic clock; from now when it is None.

    Raises:
        CliError: the route failed, was changed by somebody else, or the time is up.
    """

    def look() -> tuple[dict[str, Any] | None, str]:
        route: dict[str, Any] = api.get(f"/admin/routes/{segment(name)}")
        status = route["status"]
        if route["generation"] != generation:
            raise CliError(
                f"the route {name} was changed meanwhile: it is at generation {route['generation']}, "
                f"and yours was {generation}; see `turnout routes history {name}`"
            )
        if status["state"] == "failed":
            raise CliError(f"the route {name} failed: {status['reason'] or 'no reason was given'}")
        if status["state"] == "active" and status["active_generation"] == generation:
            return route, ""
        return None, f"the route {name} is {status['state']}" + _because(status["reason"])

    since = time.monotonic() if since is None else since
    route = dict(_poll(look, timeout_s, since))
    _wait_for_workers(api, f"the route {name} is active", timeout_s, since)
    return route


def wait_for_adapter(api: Client, name: str, number: int, *, timeout_s: float) -> dict[str, Any]:
    """Return the version once a replica has attested it and every worker knows of that.

    Where a route of its name points at it, as the one that a first version makes, that is active then.

    Raises:
        CliError: every replica that has it says that it failed, its route failed, or the time is up.
    """
    path = f"/admin/adapters/{segment(name)}/{number}"

    def look() -> tuple[dict[str, Any] | None, str]:
        version: dict[str, Any] = api.get(path)
        here = [row for row in version["registrations"] if row["current"]]
        states = {row["state"] for row in here}
        label = version["adapter"]
        if states == {"failed"}:
            raise CliError(f"{label} failed: {here[0]['reason'] or 'no reason was given'}")
        if "attested" in states:
            return version, ""
        return None, f"{label} is {'registered' if states else 'not registered yet'}"

    since = time.monotonic()
    version = dict(_poll(look, timeout_s, since))
    if name in version["routes"]:
        route = api.get(f"/admin/routes/{segment(name)}")
        wait_for_route(api, name, generation=route["generation"], timeout_s=timeout_s, since=since)
    else:
        _wait_for_workers(api, f"{version['adapter']} is attested", timeout_s, since)
    return version


def _wait_for_workers(api: Client, what: str, timeout_s: float, since: float) -> None:
    """Wait until every live worker has applied what stands in the store now.

    Raises:
        CliError: the time is up.
    """
    wanted: int = api.get("/admin/status")["generation"]

    def look() -> tuple[bool | None, str]:
        workers = [row for row in api.get("/admin/status")["workers"] if row["alive"]]
        behind = [row["id"] for row in workers if row["applied_generation"] < wanted]
        return (None, f"{what}, but not yet at the worker {behind[0]}") if behind else (True, "")

    _poll(look, timeout_s, since)


def _poll(look: Look, timeout_s: float, since: float) -> Any:
    deadline = since + timeout_s
    shown = ""
    while True:
        found, state = look()
        if found is not None:
            return found
        if state != shown and sys.stderr.isatty():
            sys.stderr.write(f"  {state} …\n")
        shown = state
        if time.monotonic() >= deadline:
            raise CliError(f"after {timeout_s:g} s {state}; `turnout status` says what is wrong")
        time.sleep(POLL_S)


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
