"""The loop's row of "Drift and loop": what the loop does, how its runs ended, and what waits for somebody."""

from monitoring.grafana.page import Limits, Page, newest

_ROUTE = 'route=~"$route"'


def add(page: Page) -> None:
    """Add the row to a page that chooses routes."""
    page.row("Loop")
    page.bars(
        "Open runs, in their state for",
        {
            "{{route}} {{state}}": "time() - "
            + newest("turnout_loop_state_timestamp_seconds", of=_ROUTE, by="route, state")
        },
        says="For how long the run of each route has been in its state. Empty when no run is open.",
        unit="s",
        see="loop-stuck",
    )
    page.bars(
        "Time left to the state's deadline",
        {
            "{{route}} {{state}}": newest(
                "turnout_loop_deadline_timestamp_seconds", of=_ROUTE, by="route, state"
            )
            + " - time()"
        },
        says="What the deadline takes for too long is ended, and the run fails or is rejected.",
        unit="s",
        limits=Limits(3600, 0, low=True),
        see="loop-stuck",
    )
    page.states(
        "Paused",
        {"{{route}}": newest("turnout_loop_paused", of=_ROUTE, by="route")},
        says="1 while a person has paused a route's loop: nothing begins there.",
        limits=Limits(1),
        names={1: "paused"},
        see="loop-waiting",
    )
    page.bars(
        "Runs by trigger and end",
        {
            "{{route}} {{trigger}} {{state}}": newest(
                "turnout_loop_runs", of=_ROUTE, by="route, trigger, state"
            )
        },
        says="All runs there ever were, by what started them and what became of them.",
        see="loop-failing",
    )
    page.bars(
        "Verdicts of the gate",
        {"{{route}} {{verdict}}": newest("turnout_loop_gate_verdicts", of=_ROUTE, by="route, verdict")},
        says="What the gate said of candidates, all runs together.",
        see="loop-failing",
    )
    page.bars(
        "Last run, by end",
        {
            "{{route}} {{state}}": "time() - "
            + newest("turnout_loop_ended_timestamp_seconds", of=_ROUTE, by="route, state")
        },
        says="How long ago a run last ended so.",
        unit="s",
        see="loop-failing",
    )
    page.graph(
        "Rows to review",
        {"{{route}}": newest("turnout_loop_review_rows", of=_ROUTE, by="route")},
        says="Curated rows that wait for a person. With `review: true` none of them is trained on before.",
        see="loop-waiting",
    )
    page.graph(
        "Failures in a row",
        {"{{route}}": newest("turnout_loop_failures_in_a_row", of=_ROUTE, by="route")},
        says="Runs that have failed since the last that did not. A failed gate is no failure: it is its use.",
        limits=Limits(1, 2),
        see="loop-failing",
        leads="experiment:route",
    )
    page.graph(
        "Gate failures in a row",
        {"{{route}}": newest("turnout_loop_gate_failures_in_a_row", of=_ROUTE, by="route")},
        says="Runs that the gate has ended since one got past it. Runs that never came to it change nothing.",
        limits=Limits(2, 3),
        see="loop-gate-fails",
        leads="experiment:route",
    )
    page.graph(
        "From drift to promotion",
        {"{{route}}": newest("turnout_loop_drift_to_promotion_seconds", of=_ROUTE, by="route")},
        says="From the look that found drift to the promotion of the version trained on it, the last time.",
        unit="s",
        leads="experiment:route",
    )
    page.bars(
        "Golden uses left",
        {"{{route}}": newest("turnout_loop_golden_uses_left", of=_ROUTE, by="route")},
        says="How many runs the present golden set may still judge before its rotation is due.",
        limits=Limits(4, 1, low=True),
        see="golden-rotation",
    )
