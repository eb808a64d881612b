"""What the watch reads of recorded requests and ratings: one a subject and day, drawn in the database."""

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from gateway.core.requests import RequestRow
from gateway.store.control import ControlStore
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests
from gateway.store.traffic import Period, Seen

DAY = 86_400.0
START = 1_700_006_400.0
"""A midnight of UTC."""


def row(number: int, at: float, **changes: Any) -> RequestRow:
    """A recorded request, `at` seconds after START."""
    values: dict[str, Any] = {
        "endpoint": "chat.completions", "route": "r", "adapter": "a@1", "status": 200, "prompt": f"p{number}",
        "unit": f"u{number}", "latency_ms": 1000.0, **changes,
    }  # fmt: skip
    return RequestRow(id=f"req-{number:08d}", at=START + at, **values)


def whole(**changes: Any) -> Period:
    """Everything of the route."""
    return Period("r", START - DAY, START + 30 * DAY)._replace(**changes)


def ids(seen: list[Seen]) -> list[int]:
    """The numbers of requests."""
    return [int(each.id.removeprefix("req-")) for each in seen]


def test_a_subject_counts_once_a_day(requests: Requests) -> None:
    """The first prompt of each subject on each day of UTC; those without a subject all count."""
    requests.write(
        [
            row(1, 10, unit="ann"),
            row(2, DAY - 1, unit="ann"),
            row(3, DAY, unit="ann"),
            row(4, 20, unit=None),
            row(5, 21, unit=None),
            row(6, 5, unit="ann", prompt=None),
            row(7, 5, unit="ann", internal=True),
            row(8, 5, route="other"),
            row(9, 30, unit="bob", adapter="a@2"),
        ]
    )
    assert ids(requests.traffic.sample(whole(), limit=100)) == [1, 4, 5, 9, 3]
    assert requests.traffic.count(whole()) == 5
    assert ids(requests.traffic.sample(whole(adapter="a@1"), limit=100)) == [1, 4, 5, 3]
    # A day that a period touches counts whole: ann's first prompt of the day lies before it.
    assert ids(requests.traffic.sample(whole(since=START + 15), limit=100)) == [4, 5, 9, 3]
    assert requests.traffic.bounds(whole()) == (START + 10, START + DAY)
    assert requests.traffic.bounds(whole(since=START + 2 * DAY)) is None


def test_parts_follow_each_other(requests: Requests) -> None:
    """What follows a request begins after it, also among requests of one moment."""
    requests.write([row(number, 10 if number < 4 else 20) for number in range(1, 7)])
    rest = requests.traffic.sample(whole(), limit=100, after=Seen("req-00000002", START + 10))
    assert ids(rest) == [3, 4, 5, 6]


def test_times_are_counted_from_both_ends(requests: Requests) -> None:
    """The nth prompt from the begin or from the end, and None when there are fewer."""
    requests.write([row(number, number) for number in range(5)])
    traffic = requests.traffic
    assert traffic.time_of(whole(), 2) == START + 1
    assert traffic.time_of(whole(), 2, newest=True) == START + 3
    assert traffic.time_of(whole(), 6) is None


def test_a_draw_is_random_by_id_and_always_the_same(requests: Requests) -> None:
    """Where there are more than were asked for, the ends of ids decide."""
    requests.write([row(number, number) for number in range(100)])
    some = requests.traffic.sample(whole(), limit=10)
    assert len(some) == 10
    assert some == sorted(some, key=lambda seen: seen.at)
    assert some == requests.traffic.sample(whole(), limit=10)
    assert set(some) < set(requests.traffic.sample(whole(), limit=50))


def test_a_draw_of_runs_is_of_prompts_that_follow_each_other(requests: Requests) -> None:
    """Whole runs of ten of one day, the same ones each time, until there are so many; of fewer all."""
    days = [(0, 95), (DAY, 200), (2 * DAY, 7)]
    rows = [row(1000 * place + n, at + n) for place, (at, count) in enumerate(days) for n in range(count)]
    for each in rows:  # as random as an id is; what repeats a subject of the day does not count
        each.id += f"-{hashlib.sha256(each.id.encode()).hexdigest()[:16]}"
    repeated = [replace(each, id=f"again-{each.id}", at=each.at + 0.5) for each in rows]
    requests.write([*rows, *repeated])
    order = {each.id: (n // 1000, n % 1000 // 10) for each in rows for n in [int(each.id[4:12])]}
    every = requests.traffic.runs(whole(), limit=302, rows=10)
    assert every == requests.traffic.sample(whole(), limit=1000)
    some = requests.traffic.runs(whole(), limit=75, rows=10)
    assert some == requests.traffic.runs(whole(), limit=75, rows=10)
    assert some == sorted(some, key=lambda seen: seen.at)
    drawn = Counter(order[each.id] for each in some)
    sizes = Counter(order.values())
    assert 75 <= len(some) < 85
    assert all(count == sizes[run] for run, count in drawn.items())
    assert len({run for run, _ in drawn}) > 1
    assert set(some) < set(requests.traffic.runs(whole(), limit=150, rows=10))
    later = requests.traffic.runs(whole(since=START + 50), limit=75, rows=10)
    assert min(each.at for each in later) >= START + 50


def test_runs_are_drawn_from_the_whole_period_alike(requests: Requests) -> None:
    """Of many draws, each day and each part of a day has its share of the prompts."""
    ids = [hashlib.sha256(f"{n}".encode()).hexdigest()[:32] for n in range(8000)]
    requests.write([replace(row(n, 4 * DAY * n / 8000), id=f"req-{name}") for n, name in enumerate(ids)])
    at = [each.at - START for each in requests.traffic.runs(whole(), limit=2000, rows=10)]
    assert len(at) == 2000
    for parts in ([time // DAY for time in at], [time % DAY // (DAY / 4) for time in at]):
        shares = [count / 2000 for count in Counter(parts).values()]
        assert len(shares) == 4
        assert 0.18 < min(shares) <= max(shares) < 0.32  # five standard deviations of 200 runs


@pytest.mark.parametrize("stored", [200, 2000])
def test_no_more_rows_leave_the_database_than_are_asked_for(requests: Requests, stored: int) -> None:
    """However many a period has, only the drawn ones are fetched, first without their texts."""
    requests.write([row(number, number, prompt="x" * 100) for number in range(stored)])
    asked: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    engine = requests._database._engine
    event.listen(engine, "after_cursor_execute", hear)
    seen = requests.traffic.sample(whole(), limit=20)
    runs = requests.traffic.runs(whole(), limit=20, rows=10)
    event.remove(engine, "after_cursor_execute", hear)
    assert len(seen) == len(runs) == 20
    assert len(asked) == 2
    for statement in asked:
        assert "LIMIT" in statement
        assert statement.startswith("SELECT anon_1.id, anon_1.at")
    assert len(requests.traffic.rows(seen)) == 20


@pytest.mark.parametrize(
    ("later", "again"),
    [
        ([{"at": 30.0, "unit": "ann"}], True),
        ([{"at": 62.0, "unit": "ann"}], False),
        ([{"at": 30.0, "unit": "bob"}], False),
        ([{"at": 0.5, "unit": "ann"}], False),
        ([{"at": 30.0, "unit": "ann", "internal": True}], False),
        ([], False),
    ],
)
def test_asked_again(requests: Requests, later: list[dict[str, Any]], again: bool) -> None:
    """Within a minute after the answer's end, by the same subject; what began beside it does not count."""
    first = row(1, 0, unit="ann")
    requests.write([first, *(row(place + 2, **changes) for place, changes in enumerate(later))])
    (found,) = requests.traffic.rows([Seen(first.id, first.at)])
    assert (found.row, found.asked_again) == (first, again)


def test_asked_again_needs_a_subject_and_an_answer(requests: Requests) -> None:
    """Without them it can't be told; a request that is gone is left out."""
    requests.write([row(1, 0, unit=None), row(2, 1, status=500)])
    found = requests.traffic.rows([Seen(f"req-{number:08d}", 0.0) for number in (1, 2, 3)])
    assert [each.asked_again for each in found] == [None, None]


def test_ratings_count_once_a_subject_day_and_metric(control: ControlStore) -> None:
    """The first of each; those of internal requests, other versions and earlier requests are left out."""

    def rate(number: int, metric: str = "thumbs", **changes: Any) -> FeedbackRow:
        given: dict[str, Any] = {
            "route": "r", "adapter": "a@1", "arm": None, "value": True, "comment": None, "key_id": "k",
            "unit": "ann", "exposed_at": START + number, "at": START + 100 + number, **changes,
        }  # fmt: skip
        return FeedbackRow(f"req-{number}", metric=metric, **given)

    control.feedback.add(
        rate(1),
        rate(2, value=False),
        rate(3, unit="bob"),
        rate(4, unit=None),
        rate(5, unit=None),
        rate(6, "stars", value=4),
        rate(7, unit="cat", internal=True),
        rate(8, unit="dan", adapter="a@2"),
        rate(9, unit="eve", exposed_at=START - 2 * DAY),
        rate(10, unit="fay", exposed_at=START + 40 * DAY),
        rate(11, exposed_at=START + DAY + 1),
        rate(12, unit="gus", at=START + 9000),
    )
    period = whole(adapter="a@1")
    found = control.rated.rows(period, "thumbs", before=START + 8000, limit=100)
    assert [each.request_id for each in found] == ["req-1", "req-3", "req-4", "req-5", "req-11"]
    rest = control.rated.rows(period, "thumbs", before=START + 8000, after_id=found[1].id, limit=2)
    assert [each.request_id for each in rest] == ["req-4", "req-5"]
    assert control.rated.metrics(period) == ["stars", "thumbs"]
    assert control.rated.totals(period, "thumbs", before=START + 8000) == (5, found[-1].id)
    assert control.rated.totals(period, "none", before=START + 8000) == (0, 0)


def test_a_draw_of_ratings_is_of_the_whole_period(control: ControlStore) -> None:
    """Where there are more than were asked for, the ends of the requests' ids decide, and not the order."""
    control.feedback.add(
        *(
            FeedbackRow(
                f"req-{hashlib.sha256(f'{n}'.encode()).hexdigest()[:32]}", "r", "a@1", None, "thumbs", True,
                None, "k", at=START + n * 1000 + 1, unit=None, exposed_at=START + n * 1000,
            )
            for n in range(1000)
        )
    )  # fmt: skip
    some = control.rated.sample(whole(), "thumbs", before=START + 30 * DAY, limit=100)
    assert len(some) == 100
    assert some == sorted(some, key=lambda rated: rated.id)
    halves = Counter(rated.exposed_at > START + 500_000 for rated in some)
    assert min(halves.values()) > 30
    assert some == control.rated.sample(whole(), "thumbs", before=START + 30 * DAY, limit=100)
    every = control.rated.sample(whole(), "thumbs", before=START + 30 * DAY, limit=2000)
    assert every == control.rated.rows(whole(), "thumbs", before=START + 30 * DAY, limit=2000)
