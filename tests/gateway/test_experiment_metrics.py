"""Experiments, canaries, ratings and signals as metrics, and internal requests apart from all others."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.api.experiment_metrics import MAX_ROUTES, ExperimentMetrics, decision_between
from gateway.api.store_metrics import StoreMetrics
from gateway.core.canary import CanaryStatus
from gateway.core.documents import Arm
from gateway.core.requests import RequestRow
from gateway.core.routes import Capture, Route, RouteSpec, RouteStatus
from gateway.gauge_rules import GAUGE_RULES
from gateway.routing.table import RoutingTable, build
from gateway.store.control import ControlStore, Snapshot
from gateway.store.database import Database
from gateway.store.findings import Finding
from gateway.store.fleet import CONTROLLER
from gateway.telemetry import MAX_PAIRS, Telemetry

CANARY = CanaryStatus(
    candidate="a@2", stable="a@1", share=0.05, started_at=1, step_at=1, after_generation=0,
    step_after_generation=0,
)  # fmt: skip
ARMS = (Arm(adapter="a@1", share=0.95), Arm(adapter="a@2", share=0.05))


def table(canaries: Mapping[str, CanaryStatus | None], arms: tuple[Arm, ...] = ARMS) -> RoutingTable:
    """A table with these routes."""
    routes = tuple(
        Route(
            name=name,
            spec=RouteSpec(arms=(Arm(adapter="a@1", share=1.0),)),
            generation=1,
            status=RouteStatus(state="active", effective_arms=arms, canary=canary),
        )
        for name, canary in canaries.items()
    )
    snapshot = Snapshot(1, routes, frozenset(), (), (), ())
    return build(snapshot, base_model="m", default_capture=Capture())


def moved(**changes: object) -> CanaryStatus:
    """The canary some time later."""
    return CANARY.model_copy(update=changes)


@pytest.mark.parametrize(
    ("before", "now", "decision"),
    [
        (None, CANARY, "began"),
        (None, moved(state="held"), "held"),
        (CANARY, CANARY, None),
        (CANARY, moved(figures={"x": 1}), None),
        (CANARY, moved(step=2, share=0.25), "stepped"),
        (CANARY, moved(state="held"), "held"),
        (CANARY, moved(state="paused"), "paused"),
        (moved(state="paused"), CANARY, "resumed"),
        (CANARY, moved(state="waiting"), "waiting"),
        (CANARY, moved(state="promoted"), "promoted"),
        (CANARY, moved(state="rolled_back"), "rolled_back"),
        (moved(state="held"), moved(state="aborted"), "aborted"),
        (moved(state="rolled_back"), moved(started_at=9), "began"),
        (CANARY, None, "ended"),
        (moved(state="promoted"), None, None),
        (None, None, None),
    ],
)
def test_decisions(before: CanaryStatus | None, now: CanaryStatus | None, decision: str | None) -> None:
    """What became of a canary between two tables has one name."""
    assert decision_between(before, now) == decision


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    """One sample."""
    return telemetry.registry.get_sample_value(f"turnout_{name}", labels)


def test_decisions_are_counted_once() -> None:
    """One worker of a machine counts, from its second table on; routes are bounded."""
    counting, other = Telemetry(), Telemetry()
    for telemetry, counts in ((counting, True), (other, False)):
        metrics = ExperimentMetrics(telemetry, tuple, counts=counts)
        metrics.see(table({"r": CANARY}))
        metrics.see(table({"r": moved(state="rolled_back")}))
        metrics.see(table({f"r{number}": CANARY for number in range(MAX_ROUTES + 5)}))
    assert value(counting, "canary_decisions_total", route="r", decision="rolled_back") == 1
    assert value(counting, "canary_decisions_total", route="r", decision="began") is None
    assert value(counting, "canary_decisions_total", route="other", decision="began") == 6
    assert value(other, "canary_decisions_total", route="r", decision="rolled_back") is None


def figures(**changes: Any) -> dict[str, Any]:
    """Findings as the controller stores them, as far as metrics need them."""
    metric = {"estimate": 0.01, "low": -0.1, "high": 0.2}
    return {
        "arms": {"a@1": {"units": 95}, "a@2": {"units": 5}},
        "mismatch": {"suspicious": False},
        "candidates": {"a@2": {"verdict": {"finding": "unknown"}, "metrics": {"errors": metric}}},
        "canary": {"candidate": "a@2", "guardrails": {"errors": {**metric, "limit": 0.02}}},
        **changes,
    }


def test_findings_are_gauges() -> None:
    """State, step, units, intervals and guardrails of what is compared now; nothing of what is over."""
    telemetry = Telemetry()
    found = [Finding("r", 7.0, figures()), Finding("over", 7.0, figures()), Finding("gone", 7.0, figures())]
    metrics = ExperimentMetrics(telemetry, lambda: found, counts=True)
    telemetry.registry.register(metrics)
    now = table({"r": moved(step=2, share=0.25)})
    over = table({"over": moved(state="promoted")}, (Arm(adapter="a@2", share=1.0),))
    metrics.see(
        replace(now, routes={**now.routes, **over.routes}, canaries={**now.canaries, **over.canaries})
    )
    pair = {"route": "r", "candidate": "a@2"}
    assert value(telemetry, "canary_state", **pair, state="running") == 1
    assert value(telemetry, "canary_state", route="over", candidate="a@2", state="promoted") == 1
    assert value(telemetry, "canary_step", **pair) == 2
    assert value(telemetry, "canary_step", route="over", candidate="a@2") is None
    assert value(telemetry, "canary_share", **pair) == 0.25
    assert value(telemetry, "experiment_units", route="r", arm="a@1") == 95
    assert value(telemetry, "experiment_difference", **pair, metric="errors", bound="high") == 0.2
    assert value(telemetry, "experiment_finding", **pair, finding="unknown") == 1
    assert value(telemetry, "experiment_mismatch", route="r") == 0
    assert value(telemetry, "guardrail_difference", **pair, guardrail="errors", bound="low") == -0.1
    assert value(telemetry, "guardrail_limit", **pair, guardrail="errors") == 0.02
    assert value(telemetry, "experiment_checked_timestamp_seconds", route="r") == 7
    for route in ("over", "gone"):
        assert value(telemetry, "experiment_units", route=route, arm="a@1") is None


def test_what_is_not_known_yet_has_no_sample() -> None:
    """An interval without an estimate shows its bounds alone; without a canary there is no guardrail."""
    telemetry = Telemetry()
    empty = {"estimate": None, "low": -1.0, "high": 1.0}
    candidates = {"a@2": {"verdict": {"finding": "unknown"}, "metrics": {"errors": empty}}}
    found = [Finding("r", 7.0, figures(candidates=candidates, canary=None))]
    metrics = ExperimentMetrics(telemetry, lambda: found, counts=True)
    telemetry.registry.register(metrics)
    metrics.see(table({"r": None}))
    labels = {"route": "r", "candidate": "a@2", "metric": "errors"}
    assert value(telemetry, "experiment_difference", **labels, bound="estimate") is None
    assert value(telemetry, "experiment_difference", **labels, bound="low") == -1
    assert value(telemetry, "guardrail_limit", route="r", candidate="a@2", guardrail="errors") is None


def test_every_gauge_says_how_workers_add_up() -> None:
    """What is read from the store is the same in every worker, and is shown once."""
    metrics = ExperimentMetrics(Telemetry(), tuple, counts=True)
    assert {family.name for family in metrics.collect()} <= GAUGE_RULES.keys()
    assert all(GAUGE_RULES[family.name] == "first" for family in metrics.collect())


def test_ratings() -> None:
    """Ratings are counted by metric; bools and numbers add up; names that clients make up are no labels."""
    telemetry = Telemetry()
    for given in (True, False, True):
        telemetry.rated("r", "a@1", "thumbs", given)
    telemetry.rated("r", "a@1", "stars", 4.5)
    telemetry.rated("r", "a@1", "demonstration", "the answer")
    telemetry.rated("r", "a@1", None, 3)
    labels = {"route": "r", "adapter": "a@1"}
    for metric, count, known, total in (
        ("thumbs", 3, 3, 2), ("stars", 1, 1, 4.5), ("demonstration", 1, None, None), ("other", 1, None, None),
    ):  # fmt: skip
        assert value(telemetry, "feedback_total", **labels, metric=metric) == count
        assert value(telemetry, "feedback_value_count", **labels, metric=metric) == known
        assert value(telemetry, "feedback_value_sum", **labels, metric=metric) == total


def row(**fields: Any) -> RequestRow:
    """A stored request."""
    usual = {"route": "r", "adapter": "a@1", "status": 200}
    return RequestRow("req-1", 0.0, "completions", **{**usual, **fields})


def test_signals_and_structured_answers() -> None:
    """What a stored row tells by itself is counted; rows of internal requests tell nothing."""
    telemetry = Telemetry()
    rows = [
        row(finish_reason="length", schema_valid=False),
        row(streamed=True, status=499),
        row(status=499),
        row(finish_reason="stop", schema_valid=True),
    ]
    telemetry.recorded([*rows, *(replace(each, internal=True) for each in rows)])
    labels = {"route": "r", "adapter": "a@1"}
    assert value(telemetry, "signals_total", **labels, signal="cut_by_length") == 1
    assert value(telemetry, "signals_total", **labels, signal="abandoned") == 1
    assert value(telemetry, "structured_answers_total", **labels, valid="false") == 1
    assert value(telemetry, "structured_answers_total", **labels, valid="true") == 1


def test_labels_are_bounded() -> None:
    """Beyond so many routes, versions and metrics all others share one series."""
    telemetry = Telemetry()
    for number in range(MAX_PAIRS + 10):
        telemetry.rated("r", f"a@{number}", "thumbs", True)
    others = {"route": "other", "adapter": "other", "metric": "other"}
    assert value(telemetry, "feedback_total", **others) == 10


def test_internal_requests_are_counted_apart() -> None:
    """A load test moves no metric of clients, its errors and its times neither."""
    telemetry = Telemetry()
    for internal in (True, False):
        ended = row(internal=internal, status=503, error_code="x", latency_ms=50.0, prompt_tokens=5)
        telemetry.finished(ended)
        telemetry.of(ended).ttft.observe(0.1)
    telemetry.finished(row(internal=True, status=499))
    clients = {"route": "r", "adapter": "a@1"}
    assert value(telemetry, "requests_total", **clients, endpoint="completions", status="503") == 1
    assert value(telemetry, "prompt_tokens_total", **clients) == 5
    assert value(telemetry, "request_duration_seconds_count", **clients) == 1
    assert value(telemetry, "ttft_seconds_count", **clients) == 1
    assert value(telemetry, "errors_total", code="x") == 1
    assert value(telemetry, "disconnects_total") == 0
    assert value(telemetry, "internal_requests_total", endpoint="completions", status="503") == 1
    assert value(telemetry, "internal_request_duration_seconds_count") == 2
    assert value(telemetry, "internal_ttft_seconds_count") == 1


def test_the_store_is_read_now_and_then(tmp_path: Path) -> None:
    """Findings are read at a scrape, not again before their time, and stay while the store is away."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    control, telemetry = ControlStore(database), Telemetry()
    lease = control.fleet.acquire(CONTROLLER, "one", ttl_s=60)
    assert lease is not None
    stored = StoreMetrics(control, telemetry, every_s=3600, counts=True)
    stored.see(table({"r": CANARY}))
    units = {"route": "r", "arm": "a@1"}

    def scraped(count: int) -> float | None:
        control.findings.put("r", figures(arms={"a@1": {"units": count}}), epoch=lease)
        asyncio.run(stored.refresh())
        return value(telemetry, "experiment_units", **units)

    assert [scraped(1), scraped(2)] == [1, 1]
    stored._read_at = float("-inf")
    assert scraped(3) == 3
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE findings")
    stored._read_at = float("-inf")
    asyncio.run(stored.refresh())
    assert value(telemetry, "experiment_units", **units) == 3
    assert value(telemetry, "store_errors_total", task="metrics") == 1
    database.close()
