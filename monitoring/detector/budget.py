"""A fleet's budget of false alarms, shared among its routes."""

from collections.abc import Mapping


def fleet_budget(false_alarms_a_month: float, rows_a_month: Mapping[str, float]) -> dict[str, float]:
    """Return each route's run length in rows, so that all together keep the budget.

    A route that is restarted after each false alarm has at most `rows / run_length` of them on average
    (renewal), so run lengths in proportion to the rows give every route the same share of the budget.

    Raises:
        ValueError: the budget is not positive.
    """
    if not false_alarms_a_month > 0:
        raise ValueError(f"a budget of {false_alarms_a_month} false alarms a month can't be kept")
    share = false_alarms_a_month / max(1, len(rows_a_month))
    return {route: max(rows, 1.0) / share for route, rows in rows_a_month.items()}
