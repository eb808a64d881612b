"""Experiment: the arms of one route side by side, what was found of them, and how far its canary is."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.page import Limits, Page, increase, mean, newest, quantile, rate, share
from monitoring.prometheus.slos import TTFT_S

_HERE = 'route="$route"'
_SIGNALS = "turnout_signals_total"
_STRUCTURED = "turnout_structured_answers_total"


def dashboard() -> Dashboard:
    """Return the dashboard."""
    page = Page(
        "experiment",
        "Experiment",
        "One route: assignment, intervals of what was found, guardrails, the canary's steps, shadows.",
        events='subject="$route"',
        span="now-24h",
    )
    page.choose("route", "Route", "label_values(turnout_requests_total, route)")
    _canary(page)
    _found(page)
    _arms(page)
    _said(page)
    _shadows(page)
    return page.build()


def _canary(page: Page) -> None:
    page.row("Canary")
    page.bars(
        "State",
        {"{{candidate}} {{state}}": newest("turnout_canary_state", of=_HERE, by="candidate, state")},
        says="What the canary does: running, held, paused, waiting, promoted, rolled_back, aborted.",
        see="canary-held",
        width=6,
    )
    page.graph(
        "Step",
        {"{{candidate}}": newest("turnout_canary_step", of=_HERE, by="candidate")},
        says="The step that the canary is at, from 1.",
        see="canary-held",
        width=6,
    )
    page.graph(
        "Share of the traffic",
        {
            "{{candidate}} promised": newest("turnout_canary_share", of=_HERE, by="candidate"),
            "{{adapter}} in fact": f"""{rate("turnout_requests_total", of=_HERE, by="adapter")}
            / on () group_left () {rate("turnout_requests_total", of=_HERE)}""",
        },
        says="What the step gives the candidate, and what each version had of the requests. Sticky subjects "
        "with many requests pull them apart; what is tested is the units below.",
        unit="percentunit",
        see="canary-held",
        width=6,
    )
    page.graph(
        "Decisions",
        {"{{decision}}": increase("turnout_canary_decisions_total", of=_HERE, by="decision", over="1h")},
        says="What became of canaries of this route, by hour: began, stepped, held, promoted, rolled_back.",
        see="canary-rolled-back",
        width=6,
    )


def _found(page: Page) -> None:
    page.row("Found")
    page.stat(
        "Looked at",
        f"time() - max(turnout_experiment_checked_timestamp_seconds{{{_HERE}}})",
        says="Since the controller last looked: at a canary every few seconds, at others every half minute.",
        unit="s",
        limits=Limits(120, 600),
        see="controller-stuck",
    )
    page.stat(
        "Assignment",
        f"max(turnout_experiment_mismatch{{{_HERE}}})",
        says="1 when arms did not get the units that their shares promise: then nothing here may be trusted.",
        unit="none",
        limits=Limits(1),
        see="canary-held",
    )
    page.bars(
        "Units",
        {"{{arm}}": newest("turnout_experiment_units", of=_HERE, by="arm")},
        says="Subjects, and requests without one, that met each arm.",
    )
    page.bars(
        "Finding",
        {
            "{{candidate}}: {{finding}}": newest(
                "turnout_experiment_finding", of=_HERE, by="candidate, finding"
            )
        },
        says="What the statistics say of each candidate; `turnout routes show` has the sentence.",
    )
    page.graph(
        "Differences to the stable arm, with bounds",
        {
            "{{candidate}} {{metric}} {{bound}}": newest(
                "turnout_experiment_difference", of=_HERE, by="candidate, metric, bound"
            )
        },
        says="Candidate minus stable. The interval from low to high holds however often one looks; where it "
        "leaves out 0 there is a difference.",
        width=12,
        signed=True,
    )
    page.graph(
        "Guardrails, with their limits",
        {
            "{{candidate}} {{guardrail}} {{bound}}": newest(
                "turnout_guardrail_difference", of=_HERE, by="candidate, guardrail, bound"
            ),
            "{{candidate}} {{guardrail}} limit": newest(
                "turnout_guardrail_limit", of=_HERE, by="candidate, guardrail"
            ),
        },
        says="A canary is rolled back when the low bound of a guardrail is above its limit.",
        see="canary-rolled-back",
        width=12,
        signed=True,
    )


def _arms(page: Page) -> None:
    page.row("Arms")
    page.graph(
        "Requests",
        {"{{adapter}}": rate("turnout_requests_total", of=_HERE, by="adapter")},
        says="Requests a second by the version that answered.",
        unit="reqps",
        stacked=True,
    )
    page.graph(
        "Failed",
        {
            "{{adapter}}": share(
                rate("turnout_requests_total", of=f'{_HERE}, status=~"5.."', by="adapter"),
                rate("turnout_requests_total", of=_HERE, by="adapter"),
            )
        },
        says="The share that failed. A look, not a test: the intervals above are the test.",
        unit="percentunit",
    )
    page.graph(
        "Time to the first event, p95",
        {"{{adapter}}": quantile(0.95, "turnout_ttft_seconds", of=_HERE, by="adapter")},
        says="From headers to the first event by version.",
        unit="s",
        limits=Limits(TTFT_S),
        see="slo-ttft",
    )


def _said(page: Page) -> None:
    page.row("What came back")
    page.graph(
        "Ratings, mean",
        {"{{adapter}} {{metric}}": mean("turnout_feedback_value", of=_HERE, by="adapter, metric", over="1h")},
        says="The mean of an hour's ratings that are bools (as 0 and 1) or numbers.",
    )
    page.graph(
        "Ratings",
        {"{{adapter}} {{metric}}": rate("turnout_feedback_total", of=_HERE, by="adapter, metric")},
        says="Ratings a second. An arm whose answers are rated more often is not judged by the same people.",
        unit="cps",
    )
    page.graph(
        "Signals",
        {
            "{{adapter}} {{signal}}": rate(_SIGNALS, of=_HERE, by="adapter, signal", over="1h")
            + " / on (adapter) group_left () "
            + rate("turnout_requests_total", of=_HERE, by="adapter", over="1h"),
            "{{adapter}} JSON, not as asked": share(
                rate(_STRUCTURED, of=f'{_HERE}, valid="false"', by="adapter", over="1h"),
                rate(_STRUCTURED, of=_HERE, by="adapter", over="1h"),
            ),
        },
        says="Shares of the answers that were cut by length or abandoned, and of those in JSON that were not "
        "what was asked for.",
        unit="percentunit",
    )


def _shadows(page: Page) -> None:
    page.row("Shadows and internal requests")
    page.graph(
        "Drawn for a shadow",
        {"{{adapter}} {{outcome}}": rate("turnout_shadow_requests_total", by="adapter, outcome")},
        says="Requests drawn for a shadow, of all routes, by what came of them.",
        unit="cps",
    )
    page.graph(
        "Internal requests",
        {"{{endpoint}} {{status}}": rate("turnout_internal_requests_total", by="endpoint, status")},
        says="Evaluations and load tests, marked by who sends them. No other count of requests has them.",
        unit="reqps",
    )
    page.graph(
        "Latency of internal requests, p95",
        {
            "whole": quantile(0.95, "turnout_internal_request_duration_seconds"),
            "first event": quantile(0.95, "turnout_internal_ttft_seconds"),
            "between pieces": quantile(0.95, "turnout_internal_inter_token_seconds"),
        },
        says="They go the way of clients' requests, so a load test shows here what clients would feel.",
        unit="s",
    )
