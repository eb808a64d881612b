"""The sliding minute: everything in it counts, and nothing falls below nothing."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits.window import WINDOW_S, Window

STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 50), st.integers(-80, 80)), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_it_counts_the_last_minute(steps: list[tuple[float, int, int]]) -> None:
    """What is counted is at least what was used within 60 s, and at most what was within 61."""
    window, now, used = Window(), 100.0, list[list[float]]()
    for wait_s, amount, back in steps:
        now += wait_s
        slot = window.add(now, amount)
        used.append([now, amount])
        if back > 0:
            taken = window.take_back(slot, back)
            assert 0 <= taken <= back
            for one in reversed(used):
                if int(one[0]) == slot:
                    here = min(taken, one[1])
                    one[1] -= here
                    taken -= int(here)
        least = sum(amount for at, amount in used if at >= now - WINDOW_S)
        most = sum(amount for at, amount in used if at > now - WINDOW_S - 1)
        assert least <= window.total(now) <= most


def test_what_has_left_is_not_taken_back() -> None:
    """A slot that is older than the window gives nothing back."""
    window = Window()
    slot = window.add(10.2, 5)
    window.add(40.0, 1)
    assert window.total(70.9) == 6
    assert window.total(71.0) == 1
    assert window.take_back(slot, 5) == 0
    assert window.total(71.0) == 1


def test_a_clock_that_stands_still_or_goes_back() -> None:
    """An earlier time counts as the newest slot: nothing is lost and nothing is out of order."""
    window = Window()
    slots = [window.add(at, 1) for at in (50.0, 50.5, 20.0, 51.0)]
    assert slots == [50, 50, 50, 51]
    assert window.total(51.0) == 4


def test_when_it_will_have_fallen() -> None:
    """The time until a total is low enough is the time at which its oldest slots leave."""
    window = Window()
    for second, amount in ((0, 3), (10, 4), (20, 5)):
        window.add(float(second), amount)
    assert [window.falls_in(25.0, most) for most in (12, 9, 5, 0, -1)] == [0.0, 36.0, 46.0, 56.0, None]
    for most in (9, 5, 0):
        wait = window.falls_in(25.0, most)
        assert wait is not None
        before, after = Window(), Window()
        for second, amount in ((0, 3), (10, 4), (20, 5)):
            before.add(float(second), amount)
            after.add(float(second), amount)
        assert before.total(25.0 + wait - 0.01) > most >= after.total(25.0 + wait)


def test_what_was_used_lately() -> None:
    """Only slots from a second on are added up."""
    window = Window()
    for at in (1.0, 2.0, 3.0):
        window.add(at, int(at))
    assert [window.since(second) for second in range(5)] == [6, 6, 5, 3, 0]
    assert list(itertools.accumulate(window.add(9.0, 1) for _ in range(2))) == [9, 18]
