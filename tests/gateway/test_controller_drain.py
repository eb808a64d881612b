"""Draining: whom the controller waits for, on its own clock, and for how long."""

import pytest

from gateway.controller.drain import DEADLINE_S, QUIET_S, SILENT_S, RollCall, Since, still
from gateway.store.fleet import WorkerRow

NAME = "a@1"
WALL = 1_700_000_000.0


class Turned:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worker(name: str = "w", *, applied: int = 7, seen_at: float = WALL, **in_flight: int) -> WorkerRow:
    """A worker's row; `a1=2` is two requests of a@1 in flight."""
    return WorkerRow(name, applied, {f"{k[0]}@{k[1:]}": n for k, n in in_flight.items()}, seen_at)


@pytest.mark.parametrize(
    ("workers", "released"),
    [
        ([], True),
        ([worker()], True),
        ([worker(applied=6)], False),
        ([worker(a1=1)], False),
        ([worker(a1=0, b1=3)], True),
        ([worker(), worker("v", applied=6)], False),
        ([worker(seen_at=WALL - 86400, applied=6)], False),
        ([worker(seen_at=WALL + 86400, a1=1)], False),
    ],
)
def test_who_is_waited_for(workers: list[WorkerRow], released: bool) -> None:
    """Every worker that was just heard of, whatever its clock says, until it has applied and finished."""
    roll = RollCall(clock=Turned())
    roll.hear(workers)
    assert roll.released(NAME, Since(7, 1000.0)) is released


def test_silence_ends_the_waiting() -> None:
    """A worker that says nothing new is waited for until the deadline; one that beats is until its own."""
    clock = Turned()
    roll = RollCall(clock=clock)
    roll.hear([worker("silent", applied=6)])
    clock.now += 30
    since = Since(7, clock.now)
    roll.hear([worker("silent", applied=6), worker("busy", a1=1)])
    assert not roll.released(NAME, since)
    clock.now += DEADLINE_S - 30
    roll.hear([worker("silent", applied=6), worker("busy", seen_at=WALL + 30)])
    assert roll.released(NAME, since)
    roll.hear([worker("silent", applied=6), worker("busy", seen_at=WALL + 31, a1=1)])
    assert not roll.released(NAME, since)
    clock.now = since.at + DEADLINE_S
    assert roll.released(NAME, since)


def test_a_restarted_engine_waits_for_who_was_just_heard_of() -> None:
    """Until it has applied the table without the old proofs, whatever is in flight, or says nothing more."""
    clock = Turned()
    roll = RollCall(clock=clock)
    since = Since(7, clock.now)
    roll.hear([worker("behind", applied=6), worker("busy", a1=1)])
    assert not roll.followed(since)
    clock.now += QUIET_S
    roll.hear([worker("behind", applied=6), worker("busy", seen_at=WALL + 5, a1=1)])
    assert roll.followed(since)
    roll.hear([worker("behind", applied=6, seen_at=WALL + 5)])
    assert not roll.followed(since)
    clock.now = since.at + DEADLINE_S
    roll.hear([worker("behind", applied=6, seen_at=WALL + 60)])
    assert roll.followed(since)


def test_who_signs_off_is_not_waited_for() -> None:
    """A row that is gone is a worker that has served its last request."""
    roll = RollCall(clock=Turned())
    roll.hear([worker(a1=1)])
    roll.hear([])
    assert roll.released(NAME, Since(7, 1000.0))


def test_who_is_silent_for_an_hour_is_struck_off() -> None:
    """Only a silence that was listened to for an hour counts."""
    clock = Turned()
    roll = RollCall(clock=clock)
    roll.hear([worker("dead"), worker("alive")])
    clock.now += SILENT_S
    roll.hear([worker("dead"), worker("alive", seen_at=WALL + 1)])
    assert roll.silent() == ["dead"]


def test_what_comes_back_begins_anew() -> None:
    """A version that is wanted again in between is waited for from the beginning."""
    first = still({}, ["a", "b"], generation=5, now=1.0)
    assert first == {"a": Since(5, 1.0), "b": Since(5, 1.0)}
    second = still(first, ["b"], generation=6, now=2.0)
    assert still(second, ["a", "b"], generation=7, now=3.0) == {"a": Since(7, 3.0), "b": Since(5, 1.0)}
