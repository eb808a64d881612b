"""Clocks that run ahead or behind for a while: nothing is hidden for long, and little is counted twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.store.watches import WatchRow
from monitoring.watch.ratings import Sequences
from monitoring.watch.state import State
from tests.monitoring.made import ROUTE
from tests.monitoring.watch.made import DAY, OPTIONS, House, house


@pytest.mark.parametrize(
    ("seen_at", "ahead_at", "now", "expected"),
    [
        (90.0, None, 100.0, (90.0, None)),
        (99.0, None, 100.0, (99.0, None)),  # a look is soon as far as that again
        (500.0, None, 100.0, (90.0, 500.0)),
        (300.0, 500.0, 100.0, (90.0, 500.0)),
        (300.0, 200.0, 100.0, (90.0, 300.0)),
        (90.0, 500.0, 505.0, (90.0, 500.0)),
        (90.0, 500.0, 510.0, (500.0, None)),
        (505.0, 500.0, 600.0, (505.0, None)),
    ],
)
def test_where_a_watch_goes_on(
    seen_at: float, ahead_at: float | None, now: float, expected: tuple[float, float | None]
) -> None:
    """At ten seconds ago where rows are dated ahead, and after those when their time has come."""
    state = State(WatchRow("r", seen_at=seen_at), None, None, Sequences({}), 1, ahead_at=ahead_at)  # type: ignore[arg-type]
    state.set_right(now=now, horizon=now - 10)
    assert (state.row.seen_at, state.ahead_at) == expected
    assert bool(state.notes) == (expected[1] is not None)


def _ahead(made: House, topic: str = "films") -> None:
    """Record three days of films, then some rows by a clock that is a month ahead, and set it right again."""
    made.traffic("films", days=3, a_day=200, seed=1)
    made.look()
    right = made.now
    made.now += 30 * DAY
    made.traffic(topic, days=0.1 if topic == "films" else 1, a_day=200, seed=2)
    made.look()
    made.now = right


@pytest.mark.slow
def test_a_clock_that_was_ahead_hides_nothing(tmp_path: Path) -> None:
    """The next look says so and goes on from its time; rows of another topic after it are an alarm."""
    with house(tmp_path) as made:
        _ahead(made)
        found = made.look().figures
        assert "a clock ran ahead" in found["notes"][0]
        before = found["rows"]["current"]
        made.traffic("films", days=0.5, a_day=200, seed=3)
        found = made.look().figures
        assert (found["rows"]["current"], found["severity"]) == (before + 100, "ignore")
        made.traffic("cooking", days=1, a_day=400, seed=4)
        assert made.look().figures["severity"] == "retrain"


@pytest.mark.slow
def test_an_alarm_by_a_clock_that_was_ahead_waits_for_no_month(tmp_path: Path) -> None:
    """The reference after it begins with what is dated now."""
    with house(tmp_path) as made:
        _ahead(made, "cooking")
        made.traffic("cooking", days=0.1, a_day=200, seed=3)
        assert made.look().figures["severity"] == "too_little_data"
        made.traffic("cooking", days=3, a_day=200, seed=4)
        found = made.look().figures
        assert (found["severity"], found["windows"]["reference"]["why"]) == ("ignore", "alarm")


@pytest.mark.slow
def test_a_clock_that_was_far_behind_has_nothing_counted_again(tmp_path: Path) -> None:
    """As of a machine that starts in 1970: when its time is right again the watch goes on where it was."""
    with house(tmp_path) as made:
        made.traffic("films", days=4, a_day=100, seed=1)
        counted = made.look().figures["rows"]["current"]
        end = made.now
        for made.now in (1000.0, 5000.0):
            found = made.look().figures
            assert found["rows"]["current"] == counted
            assert found["notes"]
        made.now = end
        made.traffic("films", days=1, a_day=100, seed=2)
        found = made.look().figures
        assert (found["rows"]["current"], found["notes"]) == (counted + 100, [])


class _Killed(BaseException):
    """Stands in for kill -9."""


@pytest.mark.slow
def test_what_a_killed_look_had_counted_is_said_by_the_next(tmp_path: Path) -> None:
    """A look that ends between two days has stored the first without a verdict; the next one has it."""
    with house(tmp_path, replace(OPTIONS, look_rows=2000)) as made:
        made.traffic("films", days=2.5, a_day=100, seed=1)
        made.look()
        made.traffic("films", days=2, a_day=100, seed=2)
        said = len(made.control.drift.rows(ROUTE))
        commit = made.control.watches.commit

        def dies_after(*arguments: Any, **named: Any) -> None:
            commit(*arguments, **named)
            raise _Killed

        made.control.watches.commit = dies_after  # type: ignore[method-assign]
        with pytest.raises(_Killed):
            made.look(made.new_watcher())
        made.control.watches.commit = commit  # type: ignore[method-assign]
        stands = made.control.watches.get(ROUTE)
        assert stands is not None
        assert len(made.control.drift.rows(ROUTE)) == said
        made.now = stands.seen_at - made.options.settle_s  # nothing more is old enough to count
        found = made.look(made.new_watcher())
        assert made.control.drift.rows(ROUTE)[0].figures["rows"] == found.figures["rows"]
        assert len(made.control.drift.rows(ROUTE)) == said + 1
        made.look()
        assert len(made.control.drift.rows(ROUTE)) == said + 1
