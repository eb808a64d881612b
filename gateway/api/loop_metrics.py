"""turnout_loop_*: what the loop does, how its runs ended, and what waits for a person.

The controller is a process of its own; the gateway exports what it left in the store. All are gauges, since
every gateway reads the same; counts of runs never fall, since runs are kept.
"""

from collections.abc import Callable, Iterable
from itertools import groupby, islice

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.api.experiment_metrics import MAX_ROUTES
from gateway.loops.run import deadline_s
from gateway.store.loop_figures import LoopFigures


class LoopMetrics(Collector):
    """A collector of `figures()`, which must be cheap; of `MAX_ROUTES` routes at most."""

    def __init__(self, figures: Callable[[], LoopFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        figures = self._figures()
        yield from _of_open(figures)
        yield from _of_past(figures)


def _of_open(figures: LoopFigures) -> Iterable[Metric]:
    since = _family("state_timestamp_seconds", "When the run of a route came into its state", "state")
    overdue = _family("deadline_timestamp_seconds", "When the state of a route's run is ended", "state")
    paused = _family("paused", "1 when a person has paused the loop of a route")
    for run in islice(sorted(figures.open, key=lambda run: run.route), MAX_ROUTES):
        since.add_metric([run.route, run.state], run.since)
        limit_s = deadline_s(run)
        if limit_s is not None:
            overdue.add_metric([run.route, run.state], run.since + limit_s)
    for route in islice(sorted(figures.paused), MAX_ROUTES):
        paused.add_metric([route], 1)
    yield from (since, overdue, paused)


def _of_past(figures: LoopFigures) -> Iterable[Metric]:
    runs = _family("runs", "Runs by what started them and the state that they are in", "trigger", "state")
    verdicts = _family("gate_verdicts", "Verdicts of the gate", "verdict")
    ended = _family("ended_timestamp_seconds", "When the last run with this end ended", "state")
    failures = _family("failures_in_a_row", "Runs that have failed since the last that did not")
    refused = _family("gate_failures_in_a_row", "Runs that the gate has ended since one got past it")
    took = _family("drift_to_promotion_seconds", "From the look that found drift to the promotion, last time")
    review = _family("review_rows", "Curated rows that wait for a person to review them")
    golden = _family("golden_uses_left", "Uses of the golden set until its rotation is due; below 0 after it")
    for family, rows in (
        (runs, figures.runs),
        (verdicts, figures.verdicts),
        (ended, figures.ended),
        (failures, figures.failures),
        (refused, figures.gate_failures),
        (took, figures.took_s),
        (review, figures.to_review),
        (golden, figures.golden_left),
    ):
        by_route = groupby(sorted(rows), key=lambda row: row[0])
        for _, several in islice(by_route, MAX_ROUTES):
            for *labels, value in several:
                family.add_metric([str(label) for label in labels], float(value))
        yield family


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnout_loop_{name}", text, labels=["route", *labels])
