"""Adapter: one adapter and its versions side by side. No engine measures this; the gateway does."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.page import Limits, Page, increase, newest, quantile, rate, share
from monitoring.prometheus.slos import GAP_S, TTFT_S

_MINE = 'adapter=~"$name@.+"'


def dashboard() -> Dashboard:
    """Return the dashboard."""
    page = Page(
        "adapter",
        "Adapter",
        "One adapter, version by version: proof, latency, tokens and what they cost, cold loads.",
        events='subject=~"$name(@.+)?"',
    )
    page.choose("name", "Adapter", "label_values(turnout_adapter_replicas, adapter)", regex="/^(.+)@/")
    page.ask("price", "Price of a million completion tokens", "1.00")
    _standing(page)
    _traffic(page)
    _latency(page)
    _tokens(page)
    _loads(page)
    return page.build()


def _standing(page: Page) -> None:
    page.row("Versions")
    page.bars(
        "Proved on replicas",
        {"{{adapter}}": newest("turnout_adapter_replicas", of=_MINE, by="adapter")},
        says="On how many healthy replicas a version is attested. One that is not here gets no traffic.",
        limits=Limits(1, low=True),
        see="attestation-failed",
        width=6,
    )
    page.graph(
        "Proved on replicas over time",
        {"{{adapter}}": newest("turnout_adapter_replicas", of=_MINE, by="adapter")},
        says="A dip is a replica that went away or a proof that failed.",
        see="attestation-failed",
        width=9,
    )
    page.graph(
        "Answers of another version",
        {"{{adapter}}": rate("turnout_wrong_model_total", of=_MINE, by="adapter")},
        says="Answers to requests for this version that another one gave. They are refused, and must not be.",
        unit="cps",
        limits=Limits(0.000001),
        see="wrong-model",
        width=9,
    )


def _traffic(page: Page) -> None:
    page.row("Traffic")
    page.graph(
        "Requests",
        {"{{adapter}} from {{route}}": rate("turnout_requests_total", of=_MINE, by="adapter, route")},
        says="Requests a second by version and the route that they came through.",
        unit="reqps",
        stacked=True,
    )
    page.graph(
        "Failed",
        {
            "{{adapter}}": share(
                rate("turnout_requests_total", of=f'{_MINE}, status=~"5..|429"', by="adapter"),
                rate("turnout_requests_total", of=_MINE, by="adapter"),
            )
        },
        says="The share of each version's requests that failed (5xx) or found no room (429).",
        unit="percentunit",
        limits=Limits(0.001, 0.01),
        see="slo-availability",
    )
    page.graph(
        "In flight",
        {"{{adapter}}": f"sum by (adapter) (turnout_in_flight{{{_MINE}}})"},
        says="Requests under way by version; a version leaves an engine only at zero.",
    )


def _latency(page: Page) -> None:
    page.row("Latency")
    for title, metric, says, limit, see in (
        (
            "Time to the first event",
            "turnout_ttft_seconds",
            "From headers to the first event, p50 and p95 by version.",
            TTFT_S,
            "slo-ttft",
        ),
        (
            "Between the pieces of a stream",
            "turnout_inter_token_seconds",
            "Inter-token latency, p50 and p95 by version.",
            GAP_S,
            "slo-inter-token",
        ),
    ):
        page.graph(
            title,
            {
                "{{adapter}} p50": quantile(0.5, metric, of=_MINE, by="adapter"),
                "{{adapter}} p95": quantile(0.95, metric, of=_MINE, by="adapter"),
            },
            says=says,
            unit="s",
            limits=Limits(limit),
            see=see,
        )
    page.graph(
        "Whole answers",
        {"{{adapter}} p95": quantile(0.95, "turnout_request_duration_seconds", of=_MINE, by="adapter")},
        says="From headers to the last byte, p95 by version.",
        unit="s",
    )


def _tokens(page: Page) -> None:
    page.row("Tokens and cost")
    page.graph(
        "Tokens",
        {
            "{{adapter}} prompt": rate("turnout_prompt_tokens_total", of=_MINE, by="adapter"),
            "{{adapter}} completion": rate("turnout_completion_tokens_total", of=_MINE, by="adapter"),
        },
        says="Tokens a second by version.",
        unit="suffix: tok/s",
    )
    page.graph(
        "Length of an answer",
        {
            "{{adapter}}": rate("turnout_completion_tokens_total", of=_MINE, by="adapter")
            + " / "
            + rate("turnout_requests_total", of=f'{_MINE}, status="200"', by="adapter")
        },
        says="Completion tokens an answer. A version that says more or less than before behaves otherwise.",
        unit="suffix: tok",
    )
    page.stat(
        "Share of the work",
        increase("turnout_completion_tokens_total", of=_MINE, over="$__range")
        + " / "
        + increase("turnout_completion_tokens_total", over="$__range"),
        says="This adapter's share of all completion tokens in the time shown.",
        unit="percentunit",
    )
    page.stat(
        "Cost in the time shown",
        increase("turnout_completion_tokens_total", of=_MINE, over="$__range") + " / 1e6 * $price",
        says="Completion tokens at the price above, in whatever currency it is. Prompts are not counted.",
        unit="none",
    )


def _loads(page: Page) -> None:
    page.row("Cold loads")
    page.graph(
        "Loaded because requests waited",
        {"{{adapter}}": f"max by (adapter) (delta(turnout_adapter_cold_loads{{{_MINE}}}[1h]))"},
        says="Cold loads in the last hour. Each cost somebody the time of a load: pin what must be warm.",
        limits=Limits(3, 6),
        see="adapter-thrash",
        width=12,
    )
    page.graph(
        "Sent away to make room",
        {"{{adapter}}": f"max by (adapter) (delta(turnout_adapter_evictions{{{_MINE}}}[1h]))"},
        says="Evictions in the last hour.",
        see="adapter-thrash",
        width=12,
    )
