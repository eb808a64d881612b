"""The part of the Fleet dashboard that is about the gateway's own processes."""

from monitoring.grafana.page import Limits, Page


def event_loops(page: Page) -> None:
    """Show how late the workers' event loops are."""
    page.graph(
        "Event loop, how late",
        {"{{instance}}": "max by (instance) (turnout_event_loop_lag_seconds)"},
        says="How late a timer's turn came, the worst of a machine's workers lately. Every request of that "
        "worker waits as long: more workers, or fewer things beside them on the machine.",
        unit="s",
        limits=Limits(0.1, 0.5),
        see="slo-ttft",
        width=5,
    )
