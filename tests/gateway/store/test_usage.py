"""Usage by key, tenant, route and version over time, from requests and from hours that were summed up."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from gateway.core.requests import RequestRow
from gateway.store import schema
from gateway.store.database import Database, Schema
from gateway.store.requests import Requests
from gateway.store.usage import HOUR_S, Dimension, hour_of, place_of

DAY = 1_763_596_800  # a midnight, UTC
NOON = DAY + 12 * HOUR_S
ALL: tuple[Dimension, ...] = ("key", "tenant", "route", "version")


def row(number: int, at: float, **fields: Any) -> RequestRow:
    """Return a request with the id that it would have."""
    values: dict[str, Any] = {"key_id": "k1", "tenant": "t", "route": "support", "adapter": "support@1"}
    values |= {"status": 200, "prompt_tokens": 10, "completion_tokens": 1, "endpoint": "chat"}
    return RequestRow(id=f"req-{int(at):08x}{number:024x}", at=at, **{**values, **fields})


def sums(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return rows as (at, adapter, requests, errors, tokens)."""
    tokens = [each["prompt_tokens"] + each["completion_tokens"] for each in found]
    return [
        (each["at"], each.get("adapter"), each["requests"], each["errors"], count)
        for each, count in zip(found, tokens, strict=True)
    ]


@pytest.fixture
def day(requests: Requests) -> Requests:
    """Four hours of requests: of two versions, some refused, one unresolved, one internal."""
    rows = [
        row(0, NOON),
        row(1, NOON + 3599.9, status=500, completion_tokens=None),
        row(2, NOON + HOUR_S, adapter="support@2"),
        row(3, NOON + 2 * HOUR_S, key_id="k2", tenant="u", route=None, adapter="base"),
        row(4, NOON + 2 * HOUR_S + 1, key_id="k2", route=None, adapter="", status=404, prompt_tokens=None),
        row(5, NOON + 3 * HOUR_S, internal=True),
        row(6, NOON + 3 * HOUR_S + 5),
    ]
    requests.write(rows)
    return requests


@pytest.mark.parametrize("summed_hours", [0, 1, 3, 9])
@pytest.mark.parametrize("pruned", [False, True])
def test_usage_is_the_same_whatever_is_summed_up(day: Requests, summed_hours: int, pruned: bool) -> None:
    """Each request counts once, from its hour's sums or by itself, also when what was summed up is pruned."""
    usage = day.usage
    usage.sum_up(settled_until=NOON + summed_hours * HOUR_S)
    if pruned:
        with day._database.write() as connection:
            old = schema.request_rows.c.at < (usage.summed_until() or 0)
            connection.execute(delete(schema.request_rows).where(old))
    found = usage.rows(("version",), since=0, until=NOON + 9 * HOUR_S, bucket="hour")
    assert sums(found) == [
        (NOON, "support@1", 2, 1, 21),
        (NOON + HOUR_S, "support@2", 1, 0, 11),
        (NOON + 2 * HOUR_S, "", 1, 1, 1),
        (NOON + 2 * HOUR_S, "base", 1, 0, 11),
        (NOON + 3 * HOUR_S, "support@1", 1, 0, 11),
    ]
    total = usage.rows((), since=0, until=NOON + 9 * HOUR_S)
    assert sums(total) == [(None, None, 6, 2, 55)]
    by_day = usage.rows(("key", "route"), since=0, until=NOON + 9 * HOUR_S, bucket="day")
    assert [(each["at"], each["key_id"], each["route"], each["requests"]) for each in by_day] == [
        (DAY, "k1", "support", 4),
        (DAY, "k2", None, 2),
    ]


@pytest.mark.parametrize(
    ("since", "until", "where", "requests_found"),
    [
        (NOON, NOON + HOUR_S, {}, 2),
        (NOON + 1800, NOON + HOUR_S + 1, {}, 3),  # whole hours
        (NOON + HOUR_S, NOON + HOUR_S, {}, 0),
        (0, NOON * 2, {"route": "support"}, 4),
        (0, NOON * 2, {"version": "base", "tenant": "u"}, 1),
        (0, NOON * 2, {"key": "nobody"}, 0),
        (0, NOON * 2, {"route": ""}, 2),
    ],
)
def test_what_is_asked_for(
    day: Requests, since: float, until: float, where: dict[Dimension, str], requests_found: int
) -> None:
    """Times are whole hours, and every dimension is a filter, over sums and requests alike."""
    day.usage.sum_up(settled_until=NOON + HOUR_S)
    found = day.usage.rows(ALL, since=since, until=until, where=where)
    assert sum(each["requests"] for each in found) == requests_found


def test_pages_have_every_row_once(day: Requests) -> None:
    """Pages of any length, each from behind the last row of the one before, are the whole in its order."""
    day.usage.sum_up(settled_until=NOON + 2 * HOUR_S)
    for bucket in (None, "hour"):
        kind: Any = {"since": 0, "until": NOON * 2, "bucket": bucket}
        whole = day.usage.rows(ALL, **kind)
        for limit in (1, 2):
            seen: list[dict[str, Any]] = []
            while page := day.usage.rows(
                ALL, **kind, limit=limit, after=place_of(seen[-1], ALL) if seen else None
            ):
                seen += page
            assert seen == whole


def test_an_hour_is_summed_up_once(day: Requests) -> None:
    """Only hours that are settled are taken, a second call finds nothing, and an empty store has none."""
    usage = day.usage
    assert usage.sum_up(settled_until=NOON + HOUR_S - 1) == 1  # the hour before, for the clock's slack
    assert usage.summed_until() == NOON
    assert usage.sum_up(settled_until=NOON + 2 * HOUR_S, most_hours=1) == 1
    assert usage.sum_up(settled_until=NOON + 2 * HOUR_S) == 1
    assert usage.sum_up(settled_until=NOON + 2 * HOUR_S) == 0
    assert usage.summed_until() == NOON + 2 * HOUR_S
    with day._database.read() as connection:
        hours = [each.hour for each in connection.execute(select(schema.usage_hours))]
    assert hours == [NOON, NOON + HOUR_S]


def test_a_store_without_requests(requests: Requests) -> None:
    """There is nothing to sum up and nothing to show."""
    assert requests.usage.sum_up(settled_until=NOON) == 0
    assert requests.usage.rows(ALL, since=0, until=NOON) == []
    assert hour_of(NOON + 0.5) == NOON


def test_two_that_sum_up_at_once(day: Requests) -> None:
    """Controllers that overlap write each hour once."""
    faults: list[BaseException] = []

    def work() -> None:
        try:
            day.usage.sum_up(settled_until=NOON + 9 * HOUR_S)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sums(day.usage.rows((), since=0, until=NOON * 2)) == [(None, None, 6, 2, 55)]
    assert day.usage.summed_until() == NOON + 9 * HOUR_S


def test_a_crash_between_leaves_no_half_hour(day: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of an hour and how far they go are one transaction."""

    class Died(BaseException):
        pass

    def die(rows: Any, *_: Any) -> Any:
        if rows is schema.usage_hours:
            raise Died
        return insert(rows)

    with monkeypatch.context() as patched:
        patched.setattr("gateway.store.usage.insert", die)
        with pytest.raises(Died):
            day.usage.sum_up(settled_until=NOON + HOUR_S)
    assert sums(day.usage.rows((), since=0, until=NOON * 2)) == [(None, None, 6, 2, 55)]
    day.usage.sum_up(settled_until=NOON + HOUR_S)
    assert sums(day.usage.rows((), since=0, until=NOON * 2)) == [(None, None, 6, 2, 55)]


def test_a_store_of_before_gets_its_usage(store_url: Callable[[Schema], str]) -> None:
    """A store with requests of an older schema is migrated, and its usage is there at once."""
    url = store_url("requests")
    database = Database(url, "requests", durable=False)
    database.migrate()
    requests = Requests(database)
    requests.write([row(0, NOON)])
    with database.write() as connection:
        schema.usage_hours.drop(connection)
        schema.usage_until.drop(connection)
        connection.exec_driver_sql("UPDATE alembic_requests SET version_num = '0006'")
    database.migrate()
    assert sums(requests.usage.rows((), since=0, until=NOON * 2)) == [(None, None, 1, 0, 11)]
    database.close()
