"""turnout_canary_* and turnout_experiment_*: how far canaries are, and what the controller last found.

The controller is a process of its own; the gateway exports what it left in the table and in the store. Labels
are names of routes, versions and metrics, which only administrators give, of `MAX_ROUTES` routes at most.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.canary import CanaryStatus
from gateway.routing.table import RoutingTable
from gateway.store.findings import Finding
from gateway.telemetry import OTHER, Telemetry

MAX_ROUTES = 100
_BOUNDS = ("estimate", "low", "high")


class ExperimentMetrics(Collector):
    """A collector of canaries, as `see` was told of them, and of `found()`, which must be cheap.

    `counts`: whether this worker counts decisions. One of a machine's workers does, since all see them.
    """

    def __init__(self, telemetry: Telemetry, found: Callable[[], Iterable[Finding]], *, counts: bool) -> None:
        self._telemetry = telemetry
        self._found = found
        self._counts = counts
        self._canaries: Mapping[str, CanaryStatus] | None = None
        self._comparing: Callable[[str], bool] = lambda _: False
        self._counted: set[str] = set()

    def see(self, table: RoutingTable) -> None:
        """Take a new table; what became of canaries since the last one is counted."""
        before, self._canaries = self._canaries, table.canaries
        self._comparing = lambda route: _compares(table, route)
        if before is None or before is table.canaries or not self._counts:
            return
        for route in before.keys() | table.canaries.keys():
            decision = decision_between(before.get(route), table.canaries.get(route))
            if decision is not None:
                self._telemetry.canary_decisions.labels(self._label(route), decision).inc()

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        yield from self._of_canaries()
        yield from self._of_findings()

    def _label(self, route: str) -> str:
        if route not in self._counted:
            if len(self._counted) >= MAX_ROUTES:
                return OTHER
            self._counted.add(route)
        return route

    def _of_canaries(self) -> Iterable[Metric]:
        state = _family("canary_state", "1 for the state that a canary is in", "route", "candidate", "state")
        step = _family("canary_step", "The step of a canary, from 1", "route", "candidate")
        share = _family("canary_share", "The share that a canary's step gives it", "route", "candidate")
        for route, canary in islice(sorted((self._canaries or {}).items()), MAX_ROUTES):
            labels = [route, canary.candidate]
            state.add_metric([*labels, canary.state], 1)
            if canary.live:
                step.add_metric(labels, canary.step)
                share.add_metric(labels, canary.share)
        yield from (state, step, share)

    def _of_findings(self) -> Iterable[Metric]:
        families = {
            "checked": _family(
                "experiment_checked_timestamp_seconds", "When an experiment was last looked at", "route"
            ),
            "units": _family("experiment_units", "Units that were exposed to an arm", "route", "arm"),
            "mismatch": _family(
                "experiment_mismatch", "1 when arms did not get the units that shares promise", "route"
            ),
            "finding": _family(
                "experiment_finding", "1 for what is found of a candidate", "route", "candidate", "finding"
            ),
            "difference": _family(
                "experiment_difference",
                "Candidate minus stable arm, with the bounds of its interval",
                *("route", "candidate", "metric", "bound"),
            ),
            "guardrail": _family(
                "guardrail_difference",
                "The same as a canary's guardrail is judged by it",
                *("route", "candidate", "guardrail", "bound"),
            ),
            "limit": _family(
                "guardrail_limit", "The limit of a guardrail", "route", "candidate", "guardrail"
            ),
        }
        for finding in self._found():
            if self._comparing(finding.route):
                _add(families, finding)
        yield from families.values()


def decision_between(before: CanaryStatus | None, now: CanaryStatus | None) -> str | None:
    """Return what was decided of a canary between two tables; None when nothing was."""
    if now is None:
        return "ended" if before is not None and before.live else None
    if before is None or before.started_at != now.started_at:
        return "began" if now.state == "running" and now.step == 1 else now.state
    if before.state != now.state:
        return "resumed" if now.state == "running" else now.state
    return "stepped" if now.step > before.step else None


def _compares(table: RoutingTable, route: str) -> bool:
    entry = table.routes.get(route)
    return entry is not None and sum(arm.share > 0 for arm in entry.arms) > 1


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnout_{name}", text, labels=labels)


def _add(families: Mapping[str, GaugeMetricFamily], finding: Finding) -> None:
    route, figures = finding.route, finding.figures
    families["checked"].add_metric([route], finding.at)
    families["mismatch"].add_metric([route], float(figures["mismatch"]["suspicious"]))
    for arm, counts in figures["arms"].items():
        families["units"].add_metric([route, arm], counts["units"])
    for label, candidate in figures["candidates"].items():
        families["finding"].add_metric([route, label, candidate["verdict"]["finding"]], 1)
        for name, metric in candidate["metrics"].items():
            _add_bounds(families["difference"], [route, label, name], metric)
    watched = figures["canary"]
    for name, guard in (watched["guardrails"] if watched else {}).items():
        labels = [route, watched["candidate"], name]
        _add_bounds(families["guardrail"], labels, guard)
        families["limit"].add_metric(labels, guard["limit"])


def _add_bounds(family: GaugeMetricFamily, labels: list[str], figures: Mapping[str, Any]) -> None:
    for bound in _BOUNDS:
        if figures[bound] is not None:
            family.add_metric([*labels, bound], figures[bound])
