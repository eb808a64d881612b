"""Limits and shares, as panels of the Fleet dashboard."""

from monitoring.grafana.page import Limits, Page, newest, quantile, rate


def limit_panels(page: Page) -> None:
    """Put the panels into the present row."""
    page.graph(
        "Time in the queue by priority, p95",
        {"{{priority}}": quantile(0.95, "turnout_queue_wait_by_priority_seconds", by="priority")},
        says="How long those waited who had to, by their tenants' priority. Tenants take turns by weight.",
        unit="s",
        limits=Limits(1, 5),
        see="slo-availability",
    )
    page.graph(
        "Refused by limits",
        {"{{scope}}: {{limit}}": rate("turnout_limited_requests_total", by="scope, limit")},
        says="Requests that a limit of their key, tenant or route refused.",
        unit="cps",
        see="budget-nearly-used",
    )
    page.graph(
        "Budgets that are used",
        {
            "{{scope}} {{name}}, {{period}}": "topk(10, "
            + newest("turnout_budget_used_ratio", by="scope, name, period")
            + ")"
        },
        says="How much of tenants' and routes' budgets of tokens is used, of the ten fullest.",
        unit="percentunit",
        limits=Limits(0.9, 1),
        see="budget-nearly-used",
    )
    page.graph(
        "Since limits were exchanged",
        {"{{instance}}": "max by (instance) (turnout_limits_age_seconds)"},
        says="Beyond 3 s a worker asks before it lets limited requests pass, or goes on with its part.",
        unit="s",
        limits=Limits(3, 10),
        see="store-errors",
    )
