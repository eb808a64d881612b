"""The alerts that one gateway's metrics can tell of now, and Prometheus' own where there is one. Pure.

These are the conditions of `monitoring/prometheus/rules` that need no history: thresholds on gauges, and
counters that have grown since the last reading. Their `for` is not waited for. What needs hours of history
(the promises' budgets, thrash, a lease that changes hands) only Prometheus can tell: `--prometheus`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.cli.top.scrape import Between, Scrape

TABLE_OVERDUE_S = 20
BUDGET_USED = 0.9
LEASE_GONE_S = 30
LOOP_OVERDUE_S = 900
LOOP_WAITS_S = 86_400
LOOP_FAILURES = 2
LOOP_GATE_FAILURES = 3
RETENTION_LATE_S = 86_400
SEEN_LONG_AGO_S = 60
DRIFT_CHECK_S = 2 * 86_400


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should look at. `severity` is `page` or `ticket`, `runbook` a page in docs."""

    name: str
    severity: str
    what: str
    runbook: str
    firing: bool = True


DOWN = Alert("TurnoutGatewayDown", "page", "the gateway does not answer", "docs/runbooks/gateway-down.md")
"""What there is to say when nothing can be read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert that can be told from a reading: `find` yields what it is about.

    `since` rules look at what counters have done since the reading before.
    """

    name: str
    severity: str
    runbook: str
    find: Callable[[Scrape, float], Iterable[str]] | None = None
    since: Callable[[Between], Iterable[str]] | None = None


def now(scrape: Scrape, between: Between | None, *, wall: float) -> list[Alert]:
    """Return the alerts of a reading, pages first; `wall` is the time, in seconds since the epoch."""
    found = []
    for rule in RULES:
        if rule.find is not None:
            subjects = list(rule.find(scrape, wall))
        else:
            subjects = list(rule.since(between)) if rule.since is not None and between is not None else []
        found += [Alert(rule.name, rule.severity, subject, rule.runbook) for subject in subjects]
    return sorted(found, key=lambda alert: (alert.severity != "page", alert.name, alert.what))


def of_prometheus(document: Mapping[str, Any]) -> list[Alert]:
    """Return the alerts in what Prometheus' `/api/v1/alerts` answers, firing ones and pages first.

    Raises:
        ValueError: it is no such answer.
    """
    data = document.get("data")
    rows = data.get("alerts") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise ValueError("the answer has no alerts")  # noqa: TRY004 - the answer's value, not a caller's type
    found = [_of_row(row) for row in rows if isinstance(row, dict)]
    return sorted(
        found, key=lambda alert: (not alert.firing, alert.severity != "page", alert.name, alert.what)
    )


def _of_row(row: Mapping[str, Any]) -> Alert:
    labels, annotations = row.get("labels") or {}, row.get("annotations") or {}
    name = str(labels.get("alertname", "?"))
    return Alert(
        name,
        str(labels.get("severity", "ticket")),
        str(annotations.get("summary", name)),
        str(annotations.get("runbook_url", "")),
        firing=row.get("state") == "firing",
    )


def _table_overdue(scrape: Scrape, _wall: float) -> Iterable[str]:
    age = scrape.only("turnout_table_age_seconds")
    if age is not None and age > TABLE_OVERDUE_S:
        yield f"the routing table was last confirmed {age:.0f} s ago"


def _no_replica(scrape: Scrape, _wall: float) -> Iterable[str]:
    up = [value for _, value in scrape.values("turnout_replica_up")]
    if up and max(up) == 0:
        yield "no replica is healthy"


def _replica_down(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_replica_up"):
        if value == 0:
            yield f"{labels['replica']} is down"


def _quarantined(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_replica_quarantined"):
        if value == 1:
            yield f"{labels['replica']} is in quarantine"


def _attestation_failed(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_proofs", proof="failed"):
        if value > 0:
            yield f"{value:.0f} versions failed their proof on {labels['replica']}"


def _route_failed(scrape: Scrape, _wall: float) -> Iterable[str]:
    for _, value in scrape.values("turnout_routes", state="failed"):
        if value > 0:
            yield f"{value:.0f} routes failed"


def _controller_gone(scrape: Scrape, wall: float) -> Iterable[str]:
    until = scrape.only("turnout_controller_lease_expiry_timestamp_seconds")
    if until is not None and wall - until > LEASE_GONE_S:
        yield "no controller is at work" if until else "there never was a controller"


def _controller_stuck(scrape: Scrape, wall: float) -> Iterable[str]:
    if any(_controller_gone(scrape, wall)):
        return
    up = scrape.by("turnout_replica_up", "replica")
    for labels, seen in scrape.values("turnout_replica_seen_timestamp_seconds"):
        if up.get(labels["replica"]) == 1 and wall - seen > SEEN_LONG_AGO_S:
            yield f"the controller has not looked at {labels['replica']} for {wall - seen:.0f} s"


def _drift_found(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_drift_detected"):
        if value == 1:
            yield f"what comes in on {labels['route']} has changed"


def _drift_not_checked(scrape: Scrape, wall: float) -> Iterable[str]:
    for labels, at in scrape.values("turnout_drift_checked_timestamp_seconds"):
        if wall - at > DRIFT_CHECK_S:
            yield f"the drift of {labels['route']} is no longer checked"


def _budget(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, used in scrape.values("turnout_budget_used_ratio"):
        if used > BUDGET_USED:
            owner = f"{labels['scope']} {labels['name']}"
            yield f"{used:.0%} of the budget of the {owner} for this {labels['period']} is used"


def _retention_late(scrape: Scrape, wall: float) -> Iterable[str]:
    kept = scrape.by("turnout_retention_seconds", "rows")
    for labels, at in scrape.values("turnout_oldest_row_timestamp_seconds"):
        late_s = wall - at - kept.get(labels["rows"], wall)
        if late_s > RETENTION_LATE_S:
            yield f"old {labels['rows']} should have been removed {late_s / 3600:.0f} h ago"


def _loop_stuck(scrape: Scrape, wall: float) -> Iterable[str]:
    for labels, at in scrape.values("turnout_loop_deadline_timestamp_seconds"):
        if wall - at > LOOP_OVERDUE_S:
            yield f"the loop's run of {labels['route']} is {labels['state']} beyond its deadline"


def _loop_failing(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, failures in scrape.values("turnout_loop_failures_in_a_row"):
        if failures >= LOOP_FAILURES:
            yield f"the last {failures:.0f} runs of the loop of {labels['route']} have failed"


def _gate_fails(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, failures in scrape.values("turnout_loop_gate_failures_in_a_row"):
        if failures >= LOOP_GATE_FAILURES:
            yield f"the last {failures:.0f} candidates of the loop of {labels['route']} did not pass the gate"


def _golden_worn(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, left in scrape.values("turnout_loop_golden_uses_left"):
        if left <= 0:
            yield f"the golden set of {labels['route']} was used often enough"


def _loop_waits(scrape: Scrape, wall: float) -> Iterable[str]:
    for state in ("waiting_approval", "waiting_review"):
        for labels, since in scrape.values("turnout_loop_state_timestamp_seconds", state=state):
            if wall - since > LOOP_WAITS_S:
                yield f"the loop's run of {labels['route']} waits for somebody"


def _canary_held(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_canary_state", state="held"):
        if value == 1:
            yield f"the canary {labels['candidate']} of {labels['route']} waits for somebody"


def _mismatch(scrape: Scrape, _wall: float) -> Iterable[str]:
    for labels, value in scrape.values("turnout_experiment_mismatch"):
        if value == 1:
            yield f"the arms of {labels['route']} did not get the units that their shares promise"


def _records_dropped(between: Between) -> Iterable[str]:
    dropped = between.increase("turnout_records_dropped_total")
    if dropped > 0:
        yield f"{dropped:.0f} request records were dropped"


def _wrong_model(between: Between) -> Iterable[str]:
    for labels, grown in between.increases("turnout_wrong_model_total"):
        if grown > 0:
            yield f"{grown:.0f} answers for {labels['adapter']} came from another version and were refused"


RULES = (
    Rule("TurnoutTableOverdue", "page", "docs/runbooks/table-overdue.md", find=_table_overdue),
    Rule("TurnoutNoReplica", "page", "docs/runbooks/replica-down.md", find=_no_replica),
    Rule("TurnoutReplicaDown", "ticket", "docs/runbooks/replica-down.md", find=_replica_down),
    Rule("TurnoutReplicaQuarantined", "ticket", "docs/runbooks/replica-quarantined.md", find=_quarantined),
    Rule(
        "TurnoutAttestationFailed", "ticket", "docs/runbooks/attestation-failed.md", find=_attestation_failed
    ),
    Rule("TurnoutRouteFailed", "ticket", "docs/runbooks/route-stuck.md", find=_route_failed),
    Rule("TurnoutControllerGone", "page", "docs/runbooks/controller-gone.md", find=_controller_gone),
    Rule("TurnoutControllerStuck", "page", "docs/runbooks/controller-stuck.md", find=_controller_stuck),
    Rule("TurnoutDriftFound", "ticket", "docs/runbooks/drift-found.md", find=_drift_found),
    Rule("TurnoutDriftNotChecked", "ticket", "docs/runbooks/drift-found.md", find=_drift_not_checked),
    Rule("TurnoutBudgetNearlyUsed", "ticket", "docs/runbooks/budget-nearly-used.md", find=_budget),
    Rule("TurnoutRetentionLate", "ticket", "docs/runbooks/retention-late.md", find=_retention_late),
    Rule("TurnoutLoopStuck", "ticket", "docs/runbooks/loop-stuck.md", find=_loop_stuck),
    Rule("TurnoutLoopFailing", "ticket", "docs/runbooks/loop-failing.md", find=_loop_failing),
    Rule("TurnoutLoopGateFails", "ticket", "docs/runbooks/loop-gate-fails.md", find=_gate_fails),
    Rule("TurnoutGoldenRotationDue", "ticket", "docs/runbooks/golden-rotation.md", find=_golden_worn),
    Rule("TurnoutLoopWaitsForApproval", "ticket", "docs/runbooks/loop-waiting.md", find=_loop_waits),
    Rule("TurnoutCanaryHeld", "ticket", "docs/runbooks/canary-held.md", find=_canary_held),
    Rule("TurnoutAssignmentMismatch", "ticket", "docs/runbooks/assignment-mismatch.md", find=_mismatch),
    Rule("TurnoutRecordsDropped", "ticket", "docs/runbooks/records-dropped.md", since=_records_dropped),
    Rule("TurnoutWrongModel", "page", "docs/runbooks/wrong-model.md", since=_wrong_model),
)
