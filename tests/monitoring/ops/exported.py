"""What can be asked of Prometheus: every metric that the code exports, by name, with its labels.

Ours come from the registry that the composition root fills, vLLM's from an answer of the real engine.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.agent.figures import OUTCOMES, Figures
from gateway.app import create_app
from gateway.configs import KEPT
from gateway.core.canary import CanaryState
from gateway.core.limits import PRIORITIES, SCOPES
from gateway.core.routes import RouteState
from gateway.loops.results import VERDICTS
from gateway.loops.run import ENDS, OPEN, STATES
from gateway.routing.table import PROOFS
from gateway.settings import Settings
from tests.fake_engine_metrics import RECORDED

Labels = frozenset[str]
SCRAPED: Labels = frozenset({"job", "instance"})
_BY_PROMETHEUS: Mapping[str, Labels] = {
    "up": SCRAPED | {"replica"},
    "ALERTS": frozenset(
        {
            *("alertname", "alertstate", "severity", "route", "replica", "slo", "scope", "name", "period"),
            *("outcome", "rows"),
        }
    ),
}


VALUES: Mapping[tuple[str, str], Collection[str]] = {
    ("turnout_proofs", "proof"): PROOFS,
    ("turnout_routes", "state"): get_args(RouteState),
    ("turnout_canary_state", "state"): get_args(CanaryState),
    ("turnout_replica_adapter_slots", "slots"): ("batch", "memory"),
    ("turnout_cold_loads_total", "outcome"): ("loaded", "refused", "timeout"),
    ("turnout_loop_runs", "state"): STATES,
    ("turnout_loop_state_timestamp_seconds", "state"): sorted(OPEN),
    ("turnout_loop_deadline_timestamp_seconds", "state"): sorted(OPEN - {"proposed"}),
    ("turnout_loop_ended_timestamp_seconds", "state"): sorted(ENDS),
    ("turnout_loop_gate_verdicts", "verdict"): VERDICTS,
    ("turnout_structured_answers_total", "valid"): ("true", "false"),
    ("turnout_agent_syncs_total", "outcome"): OUTCOMES,
    ("turnout_oldest_row_timestamp_seconds", "rows"): KEPT,
    ("turnout_retention_seconds", "rows"): KEPT,
    ("turnout_limited_requests_total", "scope"): SCOPES,
    ("turnout_budget_used_ratio", "scope"): SCOPES,
    ("turnout_budget_used_ratio", "period"): ("day", "month"),
    ("turnout_queue_wait_by_priority_seconds_bucket", "priority"): PRIORITIES,
    ("turnout_canary_decisions_total", "decision"): (*get_args(CanaryState), "began", "ended", "stepped"),
}
"""What labels can say where that is a closed set: a query for another value would never find anything."""


def ours(state_dir: Path) -> dict[str, Labels]:
    """The samples of `/metrics` by name, with their labels, those without a value yet included."""
    return _of(create_app(Settings(state_dir=state_dir)).state.gateway.telemetry.registry)


def _of(registry: CollectorRegistry) -> dict[str, Labels]:
    found: dict[str, Labels] = {}
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            labels = frozenset(getattr(metric, "_labelnames", None) or getattr(collector, "_labelnames", ()))
            for name, more in _samples(metric):
                found[name] = labels | more
    return found


def agents() -> dict[str, Labels]:
    """The samples of an agent's own metrics; the scrape adds the replica."""
    labels = SCRAPED | {"replica"}
    return {name: known | labels for name, known in _of(Figures(max_bytes=1).registry).items()}


def everything(state_dir: Path) -> dict[str, Labels]:
    """All that a query may name, recorded series left out."""
    known = {name: labels | SCRAPED for name, labels in ours(state_dir).items()}
    return {**vllm(), **agents(), **known, **_BY_PROMETHEUS}


def vllm() -> dict[str, Labels]:
    """The samples of an engine's `/metrics`; the scrape adds the replica."""
    found: dict[str, Labels] = {}
    for family in text_string_to_metric_families(RECORDED.read_text(encoding="utf-8")):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | sample.labels.keys()
    return {name: labels | SCRAPED | {"replica"} for name, labels in found.items()}


def _samples(metric: Any) -> Iterator[tuple[str, Labels]]:
    none: Labels = frozenset()
    if metric.type == "counter":
        yield f"{metric.name}_total", none
    elif metric.type in ("histogram", "summary"):
        yield f"{metric.name}_count", none
        yield f"{metric.name}_sum", none
        if metric.type == "histogram":
            yield f"{metric.name}_bucket", frozenset({"le"})
    else:
        yield metric.name, none
