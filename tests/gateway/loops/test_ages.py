"""Ages that a jump of the wall clock does not change."""

import pytest

from gateway.loops.ages import KEPT_S, Ages


class Clocks:
    """A wall clock that can be set, and a monotonic one that can't."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.monotonic = 50.0

    def pass_(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += seconds
        self.monotonic += seconds


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 0.0, 3600.0, 1e9])
def test_a_jump_changes_no_age(jump: float) -> None:
    """What was 10 minutes old is 11 minutes old a minute later, wherever the wall clock has jumped."""
    clocks = Clocks()
    ages = Ages(lambda: clocks.wall, lambda: clocks.monotonic)
    stamp = clocks.wall - 600
    assert ages.of("run", stamp) == 600
    clocks.wall += jump
    clocks.pass_(60)
    assert ages.of("run", stamp) == 660


def test_a_stamp_from_the_future_is_new() -> None:
    """A clock that was ahead and was set back leaves stamps that wait no longer than others."""
    clocks = Clocks()
    ages = Ages(lambda: clocks.wall, lambda: clocks.monotonic)
    assert ages.of("run", clocks.wall + 1e6) == 0
    clocks.pass_(10)
    assert ages.of("run", 1_000_000.0 + 1e6) == 10


def test_another_stamp_begins_anew_and_old_keys_are_forgotten() -> None:
    """A key stands for one moment; one that nobody asks for goes."""
    clocks = Clocks()
    ages = Ages(lambda: clocks.wall, lambda: clocks.monotonic)
    assert ages.of("run", clocks.wall) == 0
    assert ages.since_met("died") == 0
    clocks.pass_(5)
    assert ages.of("run", clocks.wall) == 0
    assert ages.since_met("died") == 5
    clocks.pass_(KEPT_S + 1)
    ages.forget()
    assert ages.since_met("died") == 0
