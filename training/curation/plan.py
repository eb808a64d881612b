"""What a run looks at, decided once: run again, it goes on with the same requests, whatever came since."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.core.curation import new_since
from gateway.core.loop import LoopPolicy
from gateway.core.refs import BASE
from gateway.core.requests import MAX_TEXT_CHARS
from gateway.store.control import ControlStore
from training.data.rows import DataError
from training.runs.folder import replace_file

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests that a run chooses from.

    `champion` is the version that is to be succeeded, or `base`. Ratings up to the id `until_id` count.
    `new_since`: from when on requests are new traffic (0: all that no version has learned from).
    Texts of `max_text_chars` characters were cut when they were recorded.
    """

    route: str
    run: str
    champion: str
    until_id: int
    new_since: float
    made_at: float
    drift_id: int | None = None
    max_text_chars: int = MAX_TEXT_CHARS


def plan_of(folder: Path, *, route: str, run: str, store: ControlStore, max_text_chars: int) -> Plan:
    """Return the run's plan: the one that it has, or one of now.

    What else is known of the run stands in `run.json` beside `folder`, where the loop has made it.

    Raises:
        DataError: the plan is another run's, or the route is not there.
    """
    path = folder / PLAN
    if path.is_file():
        plan = Plan(**json.loads(path.read_text(encoding="utf-8")))
        if (plan.route, plan.run) != (route, run):
            raise DataError(f"{folder} holds the rows of run {plan.run} of {plan.route}; name another --out")
        return plan
    told = _told(folder.parent / "run.json")
    drift_id = told.get("drift_id")
    plan = Plan(
        route=route,
        run=run,
        champion=str(told.get("champion") or _champion(store, route)),
        until_id=store.feedback.last_id(),
        new_since=_new_since(store, drift_id),
        made_at=time.time(),
        drift_id=drift_id,
        max_text_chars=max_text_chars,
    )
    replace_file(path, json.dumps(asdict(plan), indent=1) + "\n")
    return plan


def frozen_policy(folder: Path, given: LoopPolicy) -> LoopPolicy:
    """Return the policy that the run began with; at first that is the given one."""
    path = folder / "policy.json"
    if path.is_file():
        return LoopPolicy.model_validate_json(path.read_bytes())
    replace_file(path, given.model_dump_json(indent=1) + "\n")
    return given


def _told(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _champion(store: ControlStore, route: str) -> str:
    """Return the version that most of a route's traffic meets."""
    known = store.routes.get(route)
    if known is None:
        raise DataError(f"there is no route {route!r}")
    arms = known.status.effective_arms or known.spec.arms
    return max(arms, key=lambda arm: arm.share).adapter if arms else BASE


def _new_since(store: ControlStore, drift_id: int | None) -> float:
    """Return from when on traffic is another, where a drift report says so: best from its change."""
    row = None if drift_id is None else store.drift.get(int(drift_id))
    if row is None:
        return 0.0
    change = row.figures.get("change_at")
    return new_since(row.cause, row.looked_from, float(change) if isinstance(change, int | float) else None)
