"""Rows that were kept long enough are removed in steps, and nothing else is."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from gateway.api.retention_metrics import RetentionMetrics
from gateway.core.requests import RequestRow
from gateway.store import pruning
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.pruning import Prunable
from gateway.store.requests import Requests
from gateway.store.schema import usage_until
from gateway.store.shadows import Pair

START = 1_700_000_000
DAY_S = 86_400


def identity(number: int) -> tuple[str, float]:
    """The id and the time of one of three requests a day."""
    at = START + number * DAY_S / 3
    return f"req-{int(at):08x}{number:024x}", at


def pair(number: int) -> Pair:
    """One pair; three are of a day."""
    name, at = identity(number)
    return Pair(
        id=name, shadow_id=f"s{number}", at=at, endpoint="completions",
        route="r", adapter="a@1", shadow="a@2", prompt="p", answer="x", shadow_answer="y", shadow_status=200,
        shadow_error=None, finish_reason="stop", shadow_finish_reason="stop", completion_tokens=1,
        shadow_completion_tokens=1, latency_ms=1.0, shadow_latency_ms=1.0,
    )  # fmt: skip


def row(number: int) -> RequestRow:
    """One recorded request; three are of a day."""
    name, at = identity(number)
    return RequestRow(name, at, "completions", route="r")


def steps(rows: Prunable, *, before: float, limit: int = 4) -> Iterator[int]:
    """Remove step by step; yields how many each step removed."""
    after: Any = None
    while True:
        step = rows.remove(before=before, limit=limit, after=after)
        yield step.removed
        if step.last:
            return
        after = step.upto


def sum_up_until(requests: Requests, until: int) -> None:
    """Say that usage is summed up so far."""
    with requests.database.write() as connection:
        connection.execute(insert(usage_until).values(id=1, until=until))


def test_how_old_the_oldest_are(requests: Requests, database: Database) -> None:
    """It is exported when the oldest row was made, of rows that are removed by age, and what age that is."""
    metrics = RetentionMetrics(
        database, requests.database, {"requests": 7200.0, "pairs": 3600.0, "ratings": 0.0}
    )

    def shown() -> dict[str, dict[str, float]]:
        metrics.read()
        return {
            family.name: {sample.labels["rows"]: sample.value for sample in family.samples}
            for family in metrics.collect()
        }

    kept = {"requests": 7200.0, "pairs": 3600.0}
    assert shown() == {"turnout_oldest_row_timestamp_seconds": {}, "turnout_retention_seconds": kept}
    requests.write([row(1), row(2)])
    requests.pairs.add(pair(3))
    oldest = {"requests": identity(1)[1], "pairs": identity(3)[1]}
    assert shown()["turnout_oldest_row_timestamp_seconds"] == pytest.approx(oldest)
    metrics.keep_for({"pairs": 60.0})
    assert shown() == {
        "turnout_oldest_row_timestamp_seconds": {"pairs": pytest.approx(oldest["pairs"])},
        "turnout_retention_seconds": {"pairs": 60.0},
    }


@pytest.fixture(params=["requests", "pairs"])
def recorded(request: pytest.FixtureRequest, requests: Requests) -> tuple[Prunable, Callable[[], list[str]]]:
    """Thirty rows of ten days, and what is left of them."""
    database = requests.database
    if request.param == "requests":
        requests.write([row(number) for number in range(30)])
        sum_up_until(requests, START + 10 * DAY_S)
        left = lambda: [each.id for each in requests.window("r")]  # noqa: E731 - as short as what it is
        return pruning.recorded_requests(database), left
    for number in range(30):
        requests.pairs.add(pair(number))
    return pruning.pairs(database), lambda: [each.id for each in reversed(requests.pairs.rows("r"))]


def test_what_is_old_goes(recorded: tuple[Prunable, Callable[[], list[str]]]) -> None:
    """What is younger than the limit stays, all else goes in steps; a second time removes nothing."""
    rows, left = recorded
    before = START + 7 * DAY_S
    assert list(steps(rows, before=before)) == [4, 4, 4, 4, 4, 1]
    assert left() == [identity(number)[0] for number in range(21, 30)]
    assert list(steps(rows, before=before)) == [0]


def test_what_usage_lacks_stays(requests: Requests) -> None:
    """A request goes only when its hour is summed up, however old it is; before any sum none goes."""
    requests.write([row(number) for number in range(30)])
    rows = pruning.recorded_requests(requests.database)
    assert sum(steps(rows, before=START + 7 * DAY_S)) == 0
    sum_up_until(requests, START + 2 * DAY_S)
    assert sum(steps(rows, before=START + 7 * DAY_S)) == 6


def test_the_last_step_may_be_full(recorded: tuple[Prunable, Callable[[], list[str]]]) -> None:
    """Where the old rows fill the last step exactly, one more finds nothing."""
    rows, _ = recorded
    assert list(steps(rows, before=START + 7 * DAY_S, limit=7)) == [7, 7, 7, 0]


def test_ratings(control: ControlStore, database: Database) -> None:
    """Old ratings go, also where a few came in late; the first step of young ones is the last."""
    ages = [9, 8, 2, 7, 6, 1, 1, 1, 1, 1]
    for age in ages:
        rating = FeedbackRow(
            f"req-{age}", "r", "a@1", None, "thumbs", value=True, comment=None, key_id="k", at=START - age
        )
        control.feedback.add(rating)
    done = list(steps(pruning.ratings(database), before=START - 5, limit=2))
    assert sum(done) == 4
    assert len(done) == 3
    assert len(control.feedback.rows("r")) == len(ages) - 4


def test_verdicts(control: ControlStore, database: Database) -> None:
    """Old verdicts go, but the newest of each route, however old it is."""
    for at, route in ((1, "left"), (2, "a"), (3, "a"), (9, "a")):
        control.drift.add(DriftRow(at, route, "ok", {}, None, None))
    assert sum(steps(pruning.verdicts(database), before=5.0, limit=2)) == 2
    assert [(found.route, found.at) for found in control.drift.rows()] == [("a", 9.0), ("left", 1.0)]


def test_nothing_else_is_locked(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down is an error like any other; nothing is lost by it."""
    requests.write([row(1)])

    def down() -> None:
        raise StoreUnavailable("down")

    rows = pruning.recorded_requests(requests.database)
    monkeypatch.setattr(requests.database, "write", down)
    with pytest.raises(StoreUnavailable):
        rows.remove(before=START + DAY_S, limit=10)
    assert requests.find(identity(1)[0]) is not None


def test_a_row_with_a_strange_id_stays(requests: Requests) -> None:
    """Only rows whose ids say that they are old are looked at."""
    requests.write([RequestRow("zzz", 1.0, "completions", route="r")])
    sum_up_until(requests, START)
    assert pruning.recorded_requests(requests.database).remove(before=time.time(), limit=10).removed == 0
    assert requests.find("zzz") is not None
