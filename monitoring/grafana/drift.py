"""Drift and loop: has what comes in changed, what do people say, and what follows from it?

The loop's runs and gates are a row of their own (`monitoring.grafana.loop`), after feedback.
"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana import loop, watch
from monitoring.grafana.page import Limits, Page, increase, mean, newest, rate

_ROUTE = 'route=~"$route"'


def dashboard() -> Dashboard:
    """Return the dashboard."""
    page = Page(
        "drift",
        "Drift and loop",
        "Verdicts of the drift monitor, what people say, and the versions that follow from it.",
        span="now-7d",
    )
    page.choose("route", "Route", "label_values(turnout_requests_total, route)", several=True)
    watch.add(page)
    _drift(page)
    _feedback(page)
    loop.add(page)
    _versions(page)
    return page.build()


def _drift(page: Page) -> None:
    page.row("Single checks")
    page.states(
        "Verdict",
        {"{{route}}": newest("turnout_drift_detected", of=_ROUTE, by="route")},
        says="1 when the newest check found drift.",
        limits=Limits(1),
        names={0: "no drift", 1: "drift"},
        see="drift-found",
        width=12,
        leads="experiment:route",
    )
    page.graph(
        "Since the last check",
        {"{{route}}": f"time() - max by (route) (turnout_drift_checked_timestamp_seconds{{{_ROUTE}}})"},
        says="Whoever runs `turnout monitor` decides how often; a route that is never checked is not here.",
        unit="s",
        limits=Limits(86_400, 172_800),
        see="drift-found",
        width=6,
        leads="experiment:route",
    )
    page.bars(
        "Rows in the windows",
        {"{{route}} {{window}}": newest("turnout_drift_rows", of=_ROUTE, by="route, window")},
        says="How many requests the newest check compared. Few rows find only large changes.",
        see="drift-found",
        width=6,
    )
    page.graph(
        "Size of the difference",
        {"{{route}} {{feature}}": newest("turnout_drift_effect", of=_ROUTE, by="route, feature")},
        says="How far the windows are apart by feature, each in a measure of its own.",
        see="drift-found",
        width=12,
    )
    page.graph(
        "Probability without drift",
        {"{{route}} {{feature}}": newest("turnout_drift_p_value", of=_ROUTE, by="route, feature")},
        says="The probability of such a difference if nothing had changed, for each feature alone.",
        see="drift-found",
        width=12,
        logarithmic=True,
    )


def _feedback(page: Page) -> None:
    page.row("Feedback")
    page.graph(
        "Ratings",
        {
            "{{route}} {{metric}}": increase(
                "turnout_feedback_total", of=_ROUTE, by="route, metric", over="1h"
            )
        },
        says="Ratings in an hour, of any kind.",
    )
    page.graph(
        "Ratings, mean",
        {"{{route}} {{metric}}": mean("turnout_feedback_value", of=_ROUTE, by="route, metric", over="6h")},
        says="The mean over six hours of ratings that are bools (as 0 and 1) or numbers.",
    )
    page.graph(
        "Signals",
        {
            "{{route}} {{signal}}": rate("turnout_signals_total", of=_ROUTE, by="route, signal", over="6h")
            + " / on (route) group_left () "
            + rate("turnout_requests_total", of=_ROUTE, by="route", over="6h")
        },
        says="The share of the answers that were cut by length or abandoned, over six hours.",
        unit="percentunit",
    )


def _versions(page: Page) -> None:
    page.row("Versions")
    page.graph(
        "Who answers",
        {"{{adapter}}": rate("turnout_requests_total", of=_ROUTE, by="adapter")},
        says="Requests by version: what a promotion or a rollback did. The events are drawn in.",
        unit="reqps",
        stacked=True,
        width=12,
    )
    page.graph(
        "Canary decisions",
        {
            "{{route}} {{decision}}": increase(
                "turnout_canary_decisions_total", of=_ROUTE, by="route, decision", over="1h"
            )
        },
        says="What became of new versions, by hour.",
        see="canary-rolled-back",
        width=12,
    )
