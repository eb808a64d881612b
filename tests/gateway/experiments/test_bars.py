"""Intervals as text."""

import pytest

from gateway.experiments.bars import bar


@pytest.mark.parametrize(
    ("low", "high", "estimate", "drawn"),
    [
        (-0.1, 0.1, 0.0, "◀────●────▶"),
        (-0.05, 0.02, -0.02, "───●─┼──···"),
        (0.01, 0.03, 0.02, "·····│─●─··"),
        (-1.0, 1.0, None, "◀────┼────▶"),
        (0.2, 0.4, 0.3, "·····│····▶"),
        (-0.4, -0.2, -0.3, "◀····│·····"),
    ],
)
def test_an_interval_is_drawn_about_zero(low: float, high: float, estimate: float | None, drawn: str) -> None:
    """The axis goes from -5 to 5 points; what leaves it is an arrow, and the estimate is a dot."""
    assert bar(low, high, estimate, span=0.05, width=11) == drawn
