"""Guardrails and the hard stop."""

from dataclasses import replace

import pytest

from gateway.experiments.compare import Difference
from gateway.experiments.guardrails import Better, alpha_each, breached, hard_stop, sides_of

SEEN = Difference(0.06, 0.03, 0.09, 0.01, 0.07, 900, 60)


@pytest.mark.parametrize(
    ("low", "high", "better", "limit", "stops"),
    [
        (0.03, 0.09, "lower", 0.02, True),
        (0.02, 0.09, "lower", 0.02, False),
        (-0.1, 0.9, "lower", 0.02, False),
        (0.03, 0.09, "higher", 0.0, False),
        (-0.09, -0.06, "higher", 0.05, True),
        (-0.09, -0.05, "higher", 0.05, False),
    ],
)
def test_only_the_bound_decides(low: float, high: float, better: Better, limit: float, stops: bool) -> None:
    """A guardrail is breached when the whole interval is beyond its limit, in the direction that is worse."""
    assert breached(replace(SEEN, low=low, high=high), limit, better=better) is stops


def test_guardrails_share_alpha() -> None:
    """One guardrail's side errs with its part of alpha; one alone has it whole."""
    assert alpha_each(0.05, 1) == pytest.approx(0.1)
    assert alpha_each(0.05, 4) / 2 == pytest.approx(0.0125)
    assert alpha_each(0.05, 0) == pytest.approx(0.1)
    assert sides_of(["errors", "answer_length"]) == 3


@pytest.mark.parametrize(
    ("failures", "count", "stops"),
    [
        ([], 3, False),
        ([True, True], 3, False),
        ([True, True, True], 3, True),
        ([True, True, True, False], 3, False),
        ([True, False, True, True], 3, False),
        ([False, True, True, True, True], 3, True),
        ([True], 0, False),
    ],
)
def test_a_hard_stop_takes_failures_in_a_row(failures: list[bool], count: int, stops: bool) -> None:
    """Only the newest ones count, and one success among them starts again."""
    assert hard_stop(iter(failures), count) is stops
