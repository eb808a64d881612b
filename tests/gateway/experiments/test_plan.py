"""What an experiment will find, and when."""

import pytest

from gateway.experiments.plan import detectable, fixed_horizon_units, plan, units_needed


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("difference", [0.02, 0.1])
def test_units_and_differences_are_inverse(share: float, difference: float) -> None:
    """So many units find this difference, and one less does not."""
    units = units_needed(difference, share=share, alpha=0.05)
    assert units is not None
    assert detectable(units, share=share, alpha=0.05) <= difference
    assert detectable(units - 1, share=share, alpha=0.05) > difference


def test_looking_always_costs_about_twice_the_units() -> None:
    """Between 1.5 and 2.5 times what a test takes that looks once, for the same power."""
    for difference in (0.02, 0.05, 0.1):
        units = units_needed(difference, share=0.5, alpha=0.05)
        assert units is not None
        assert 1.5 < units / fixed_horizon_units(difference, share=0.5, alpha=0.05) < 2.5


def test_a_plan_counts_the_window_and_what_is_there() -> None:
    """Days are those of the units that are lacking, and of the first one's window."""
    fresh = plan(0.05, share=0.5, units_per_day=1000, window_days=3, alpha=0.05)
    assert fresh.units is not None
    assert fresh.days == pytest.approx(fresh.units / 1000 + 3)
    assert fresh.detectable == detectable(11_000, share=0.5, alpha=0.05)
    later = plan(0.05, share=0.5, units_per_day=1000, window_days=3, alpha=0.05, information=500)
    assert later.days == pytest.approx((fresh.units - 2000) / 1000)
    done = plan(0.05, share=0.5, units_per_day=1000, window_days=3, alpha=0.05, information=9000)
    assert done.days == 0


@pytest.mark.parametrize(
    ("share", "units_per_day", "difference"),
    [(0.0, 100, 0.05), (1.0, 100, 0.05), (0.5, 0, 0.05), (0.5, 100, 0.0)],
)
def test_without_traffic_or_a_difference_there_is_no_end(
    share: float, units_per_day: float, difference: float
) -> None:
    """An arm without traffic, a route without requests, and a difference of nothing are never found."""
    found = plan(difference, share=share, units_per_day=units_per_day, window_days=3, alpha=0.05)
    assert found.days is None
