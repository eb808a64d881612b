"""Mixed bets on bounded steps."""

import random
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.experiments.wealth import Wealth, boundary


def bet(steps: list[float]) -> Wealth:
    """Bets on these steps."""
    wealth = Wealth()
    for step in steps:
        wealth.add(step)
    return wealth


@given(st.lists(st.floats(-0.999, 1), max_size=50), st.floats(0.001, 0.5))
def test_the_bound_is_where_the_claim_is_refuted(steps: list[float], alpha: float) -> None:
    """Claims below the bound are refuted and claims above it are not."""
    wealth = bet(steps)
    low = wealth.low(alpha)
    assert low <= sum(steps) + 1e-9
    assert wealth.refutes(low - 1e-4, alpha)
    assert not wealth.refutes(low + 1e-4, alpha)


def test_bounds_narrow_with_what_is_counted() -> None:
    """The bound on the mean of fair steps comes closer, about as the square root of their number does."""
    rng = random.Random(1)
    steps = [rng.choice((-0.5, 0.5)) for _ in range(64_000)]
    gaps = [-(bet(steps[:count]).low(0.025) - sum(steps[:count])) / count for count in (1000, 4000, 16_000)]
    assert gaps[0] > 1.7 * gaps[1] > 2.8 * gaps[2]


@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_the_planners_boundary_is_that_of_the_bets(spread: float) -> None:
    """For steps of plus and minus the same size, the planned distance is the real one within a tenth."""
    steps = [spread, -spread] * 2000
    real = -bet(steps).low(0.025)
    assert boundary(4000 * spread**2, 0.025) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    ("best", "least", "most"), [(0.01, 1.7, 2.0), (0.1, 1.4, 1.7), (0.4, 1.3, 1.45), (0.8, 1.2, 1.35)]
)
def test_not_knowing_the_best_bet_costs_little(best: float, least: float, most: float) -> None:
    """A drift for which one bet is best takes at most twice the variance that this bet alone would take."""
    alone = 2 * -log(0.025) / best**2
    low, high = 0.0, 10 * alone
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if boundary(middle, 0.025) <= best * middle else (middle, high)
    assert least < high / alone < most
