"""The score interval of a paired difference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.paired import Discordance
from training.gate.tango import one_sided, score_interval, statistic


@pytest.mark.parametrize(
    ("rows", "first", "second", "low", "high"),
    [
        (50, 12, 2, 0.0611, 0.3447),  # Newcombe 1998, table II, example (a), method 10's neighbour: Tango's
        (44, 1, 0, -0.0594, 0.1181),
        (30, 0, 0, -0.1135, 0.1135),
        (10, 10, 0, 0.4449, 1.0),
    ],
)
def test_the_interval_is_tangos(rows: int, first: int, second: int, low: float, high: float) -> None:
    """It gives what is published, and has width where no row differs."""
    found = score_interval(Discordance(rows, first, second), level=0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert found.value == (first - second) / rows


@given(st.integers(5, 300), st.data())
@settings(max_examples=40, deadline=None)
def test_each_end_is_a_one_sided_test(rows: int, data: st.DataObject) -> None:
    """The statistic at an end is the level's quantile; exchanging the systems mirrors the interval."""
    first = data.draw(st.integers(0, rows))
    second = data.draw(st.integers(0, rows - first))
    found = score_interval(Discordance(rows, first, second), level=0.9)
    mirrored = score_interval(Discordance(rows, second, first), level=0.9)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)
    assert found.low <= found.value <= found.high
    if -1 < found.low < found.value:
        assert one_sided(Discordance(rows, first, second), found.low) == pytest.approx(0.05, abs=1e-6)


def test_what_is_no_difference_is_refused() -> None:
    """Shares differ by less than 1, and no rows have no interval."""
    with pytest.raises(ValueError, match="not between"):
        statistic(Discordance(10, 1, 1), 1.0)
    with pytest.raises(ValueError, match="no rows"):
        score_interval(Discordance(0, 0, 0), level=0.9)
