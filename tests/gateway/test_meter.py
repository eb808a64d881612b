"""What workers report of usage: decayed counts that add up."""

import pytest

from gateway.replicas import meter
from gateway.replicas.meter import Meter, rate_of


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_count_halves_in_every_half_life() -> None:
    """Eight requests are worth four after one half-life, and one after three."""
    clock = Clock()
    made = Meter(half_life_s=10.0, clock=clock)
    for _ in range(8):
        made.count("a@1")
    assert made.report()["a@1"].count == pytest.approx(8)
    clock.now += 10
    assert made.report()["a@1"].count == pytest.approx(4)
    clock.now += 20
    assert made.report()["a@1"].count == pytest.approx(1)


@pytest.mark.parametrize("every_s", [0.5, 2.0])
def test_a_steady_rate_is_found_again(every_s: float) -> None:
    """However often it is reported, ten requests a second come out as ten a second."""
    clock = Clock()
    made = Meter(half_life_s=5.0, clock=clock)
    for _ in range(int(60 / every_s)):
        clock.now += every_s / 2
        for _ in range(int(10 * every_s)):
            made.count("a@1")
        clock.now += every_s / 2
        report = made.report()
    assert rate_of(report["a@1"].count, half_life_s=5.0) == pytest.approx(10, rel=0.2)


def test_when_a_version_was_last_asked_for_outlives_its_count() -> None:
    """A count that has faded is zero, and the time of the last request stays."""
    clock = Clock()
    made = Meter(half_life_s=1.0, clock=clock)
    made.count("a@1")
    used_at = made.report()["a@1"].used_at
    clock.now += 60
    faded = made.report()["a@1"]
    assert (faded.count, faded.used_at) == (0.0, used_at)


def test_a_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many versions those that were asked for last are reported."""
    monkeypatch.setattr(meter, "MAX_REPORTED", 3)
    made = Meter()
    for label in ("a@1", "b@1"):
        made.count(label)
    made.report()
    for label in ("c@1", "d@1", "e@1"):
        made.count(label)
    assert set(made.report()) == {"c@1", "d@1", "e@1"}


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    """Two reports at one moment are the same."""
    made = Meter(clock=lambda: 5.0)
    made.count("a@1")
    assert made.report() == made.report()
