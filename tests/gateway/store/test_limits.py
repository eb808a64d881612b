"""Limits in the store: documents with their events, exchanges one after the other, budgets that add up."""

import concurrent.futures
import itertools
from collections.abc import Collection

import pytest

from gateway.auth import mint
from gateway.core.limits import Limits
from gateway.core.requests import Role
from gateway.store.control import ControlStore
from gateway.store.limits import ClaimRow, Said
from tests.gateway.store.conftest import Clock

SHOP = ("tenant", "shop", "day")
NOBODY: Collection[tuple[str, int]] = ()


def test_they_are_set_and_taken_away(control: ControlStore) -> None:
    """Each change bumps the generation and leaves an event with both documents; none leaves none."""
    before = control.generation()
    few, more = Limits(requests_per_minute=5), Limits(requests_per_minute=9, weight=2.0)
    for wanted in (few, few, more, None, None):
        assert control.limits.put("tenant", "shop", wanted, actor="ann", why="a test")
    assert control.generation() == before + 3
    events = control.events.rows("tenant:shop")
    assert [(event.before, event.after) for event in reversed(events)] == [
        (None, few.document()),
        (few.document(), more.document()),
        (more.document(), None),
    ]
    assert {(event.action, event.actor, event.why) for event in events} == {("limits.set", "ann", "a test")}
    assert control.limits.documents() == {}


def test_a_keys_are_in_its_row(control: ControlStore) -> None:
    """A key's own limits stand with the key, those of every key apart; a key that is not there has none."""
    _, key = mint(label="", tenant="shop", roles=[Role.INFERENCE], pepper=b"p" * 32, limits={"concurrent": 2})
    control.keys.add(key, actor="test")
    assert not control.limits.put("key", "nobody", Limits(concurrent=1), actor="test", why=None)
    assert control.limits.put("key", key.id, Limits(concurrent=3), actor="test", why=None)
    assert control.limits.put("key", "*", Limits(concurrent=9), actor="test", why=None)
    stored = control.keys.get(key.id)
    assert stored is not None
    assert stored.limits == {"concurrent": 3}
    assert control.snapshot().limits == {("key", "*"): {"concurrent": 9}}


def test_each_sees_what_the_others_said(control: ControlStore) -> None:
    """Exchanges of many workers at once are one after the other: what one claims the next one sees."""
    taken = itertools.count()

    def decide(rows: list[ClaimRow]) -> tuple[Said, Collection[tuple[str, int]]]:
        claimed = sum(row.said["requests|tenant|shop"][1] for row in rows)
        assert claimed == next(taken)  # as many as were before
        return {"requests|tenant|shop": (0, 1, False)}, NOBODY

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda worker: control.limits.exchange(f"w{worker}", 1, decide, spend={SHOP: 5}), range(12)
            )
        )
    assert control.limits.spent().totals == {SHOP: 60}


def test_who_is_gone_is_removed(control: ControlStore) -> None:
    """A row goes only as it was when it was found to be gone."""
    seen: list[list[ClaimRow]] = []

    def decide(rows: list[ClaimRow]) -> tuple[Said, Collection[tuple[str, int]]]:
        seen.append(rows)
        return {"x": (1, 2, True)}, [("a", 1), ("b", 6)]

    for worker, turn in (("a", 1), ("b", 7), ("c", 1)):
        control.limits.exchange(worker, turn, decide, spend={})
    control.limits.exchange("c", 2, decide, spend={})
    assert [[row.worker for row in rows] for rows in seen] == [[], [], ["b"], ["b"]]
    assert seen[-1] == [ClaimRow("b", 7, {"x": [1, 2, True]})]
    control.limits.forget("b")


@pytest.mark.parametrize(
    ("now", "named", "left_s"),
    [
        (0.0, ("1970-01-01", "1970-01"), (86_400.0, 31 * 86_400.0)),
        (1_709_164_800.0 + 3600, ("2024-02-29", "2024-02"), (82_800.0, 82_800.0)),  # a leap day
        (1_735_689_599.0, ("2024-12-31", "2024-12"), (1.0, 1.0)),
    ],
)
def test_periods(
    control: ControlStore, clock: Clock, now: float, named: tuple[str, str], left_s: tuple[float, float]
) -> None:
    """Days and months are those of UTC by the store's clock, and end when the next one begins."""
    clock.now = now
    periods = control.limits.spent().periods
    assert (periods["day"].name, periods["month"].name) == named
    assert (periods["day"].left_s, periods["month"].left_s) == left_s


def test_budgets_add_up(control: ControlStore, clock: Clock) -> None:
    """A budget adds up, never falls below nothing, and has a count of its own for each period."""

    def spend(tokens: int, kind: str = "day") -> int:
        budget = ("tenant", "shop", kind)
        spent = control.limits.exchange("w", 1, lambda _: ({}, NOBODY), spend={budget: tokens})
        return spent.totals[budget]

    clock.now = 86_400.0 * 10
    assert [spend(30), spend(-10), spend(-50), spend(0), spend(7)] == [30, 20, 0, 0, 7]
    assert spend(100, "month") == 100
    clock.now += 86_400.0
    assert spend(5) == 5
    assert spend(5, "month") == 105
    clock.now -= 86_400.0
    assert spend(1) == 8


def test_old_periods_go(control: ControlStore, clock: Clock) -> None:
    """Of each budget two months of days are kept, whatever else is pruned."""
    for day in range(70):
        clock.now = 86_400.0 * (day + 1)
        control.limits.exchange("w", 1, lambda _: ({}, NOBODY), spend={SHOP: 1, ("tenant", "x", "month"): 1})
    with control.database.read() as connection:
        found = connection.exec_driver_sql("SELECT name, count(*) FROM token_use GROUP BY name").all()
    assert sorted(tuple(row) for row in found) == [("shop", 62), ("x", 3)]
