"""Whether a route's loop begins a run now: what the store knows, put before `gateway.loops.rules`."""

from collections.abc import Callable, Hashable, Sequence

from gateway.core.routes import Route
from gateway.loops import rules
from gateway.loops.rules import Begin, Finding, NotNow, Past
from gateway.store.control import ControlStore
from gateway.store.epochs import champion_since
from gateway.store.loop import FindingRow, LoopRoute, PastRow

Age = Callable[[Hashable, float], float]
"""From a key and a stamp (seconds since the epoch) to the seconds since then."""


def due(
    store: ControlStore,
    route: Route,
    known: LoopRoute | None,
    past: Sequence[PastRow],
    found: Sequence[FindingRow],
    *,
    age: Age,
) -> Begin | NotNow:
    """Return the run that should begin by itself now, or why none does.

    `known` is what is kept of the route's loop, `past` and `found` its runs and findings.
    """
    if known is not None and known.paused_at is not None:
        return NotNow("it is paused")
    unfit = rules.unfit(route)
    policy, label = route.spec.loop, rules.champion_of(route)
    if unfit is not None or policy is None or label is None:
        return NotNow(unfit or "it has no loop")
    runs = [past_of(row, age) for row in past]
    findings, since = [], None
    for each in found:
        least = rules.needed(policy, runs, each.id)
        learnable = store.curation.learnable(route.name, since=each.since, most=least)
        findings.append(Finding(each.id, each.cause, age(("finding", each.id), each.at), learnable))
    if findings:
        since = champion_since(store.epochs.rows(route.name), label)
    return rules.begin(
        policy,
        runs,
        findings=findings,
        watched_s=age(("seen", route.name), known.seen_at) if known else 0.0,
        champion_s=0.0 if since is None else age(("champion", route.name), since),
    )


def past_of(row: PastRow, age: Age) -> Past:
    """Return a run of before as the rules see it."""
    ended = None if row.ended_at is None else age((row.id, "ended"), row.ended_at)
    begun = age((row.id, "begun"), row.created_at)
    return Past(begun, ended, row.drift_id, row.in_vain, row.lacks or 1.0)
