"""Looks at a route, one after the other: references, evidence, alarms, restarts, and ends in the middle."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.store.database import StoreUnavailable
from gateway.store.feedback import FeedbackRow
from gateway.store.lease import LeaseLost
from gateway.store.traffic import Period
from gateway.store.watches import lease_name
from monitoring.watch.basis import Basis, Pinned
from monitoring.watch.references import renewed
from tests.monitoring.made import ROUTE, put_route
from tests.monitoring.watch.made import DAY, MIDNIGHT, OPTIONS, House, house

pytestmark = pytest.mark.slow


def _verdicts(made: House) -> list[tuple[str | None, str | None]]:
    return [(row.severity, row.cause) for row in reversed(made.control.drift.rows(ROUTE))]


def test_too_little_data_says_how_much_is_missing(tmp_path: Path) -> None:
    """Rows and days are counted down; the same answer is stored once, and a route without capture is told."""
    with house(tmp_path) as made:
        assert "200 more prompts (one a subject and day) and 2.0 more days" in made.look().sentence
        made.look()
        made.traffic("films", days=1, a_day=150, seed=1)
        found = made.look()
        assert found.figures["too_little"]["rows"] == 150
        assert "50 more prompts" in found.sentence
        assert _verdicts(made) == [("too_little_data", "none")] * 2
        put_route(made.control, capture={"mode": "off"})
        assert "capture.mode" in made.look().figures["notes"][0]


def test_quiet_traffic_is_ignored_and_a_new_topic_is_an_alarm(tmp_path: Path) -> None:
    """The same topic for days is nothing; half of another one is found, and begins a new reference."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=200, seed=1)
        first = made.look()
        reference = first.figures["rows"]["reference"]
        assert 400 <= reference < 600
        for seed in range(2, 5):
            made.traffic("films", days=0.5, a_day=400, seed=seed)
            assert made.look().figures["severity"] == "ignore"
        assert made.control.watches.get(ROUTE).figures["rows"]["current"] == 1200 - reference  # type: ignore[union-attr]
        stood = made.control.watches.get(ROUTE)
        assert stood is not None
        kept = made.control.watches.reference(ROUTE, stood.reference)
        assert kept is not None
        for document in (stood.state, stood.figures, kept.document):
            json.dumps(document, allow_nan=False)  # PostgreSQL takes no NaN
        before = len(made.encoder.encoded)
        made.look()
        assert len(made.encoder.encoded) == before
        assert len(_verdicts(made)) == 4
        made.traffic("cooking", days=0.5, a_day=800, seed=9)
        found = made.look()
        assert (found.figures["severity"], found.figures["cause"]) == ("retrain", "drift")
        assert "what comes in, or the answers, changed" in found.sentence
        (event,) = [
            row for row in made.control.events.rows(ROUTE, limit=50, after_id=0) if "drift" in row.action
        ]
        assert (event.action, event.actor, event.after["cause"]) == ("drift.alarm", "monitor", "drift")
        row = made.control.drift.rows(ROUTE, limit=1)[0]
        assert (row.kind, row.verdict, row.adapter) == ("sequential", "drift", "support@1")
        assert row.evidence is not None
        assert row.threshold is not None
        assert row.evidence > 0
        assert row.looked_to is not None
        assert row.looked_to <= made.now
        stands = made.control.watches.get(ROUTE)
        assert stands is not None
        assert stands.basis["why"] == "alarm"
        assert list(stands.alarms) == [found.figures["stream"]]
        assert stands.figures["owed"] is not None
        assert made.look().figures["severity"] == "too_little_data"
        made.traffic("cooking", days=3, a_day=200, seed=10)
        assert made.look().figures["severity"] == "ignore"


def test_routes_that_are_added_later_share_the_budget(tmp_path: Path) -> None:
    """What a reference began with is raised to today's part, and lowered no further than it began."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=200, seed=1)
        first = made.look(routes=2).figures["detector"]["threshold"]
        made.traffic("films", days=0.5, a_day=200, seed=2)
        assert made.look(routes=200).figures["detector"]["threshold"] == pytest.approx(first + math.log(100))
        assert made.look(routes=1).figures["detector"]["threshold"] == pytest.approx(first)


def test_another_version_begins_anew(tmp_path: Path) -> None:
    """When most of the traffic goes to another version, its own requests are the reference."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=200, seed=1)
        assert made.look().figures["severity"] == "ignore"
        made.promote("support@2")
        made.traffic("films", days=1, a_day=100, seed=2)
        assert made.look().figures["too_little"]["rows"] == 0
        made.traffic("cooking", days=3, a_day=200, seed=3, adapter="support@2")
        found = made.look()
        assert found.figures["severity"] == "ignore"
        assert found.figures["windows"]["reference"]["since"] < MIDNIGHT + 4 * DAY
        stands = made.control.watches.get(ROUTE)
        assert stands is not None
        assert (stands.adapter, stands.reference) == ("support@2", 2)


def test_a_pinned_period_is_the_reference(tmp_path: Path) -> None:
    """What a person chose is compared with, whichever version answered it then."""
    pinned = Pinned(MIDNIGHT, MIDNIGHT + 3 * DAY)
    with house(tmp_path, replace(OPTIONS, pinned=pinned)) as made:
        made.traffic("films", days=3, a_day=100, seed=1, adapter="support@0")
        made.traffic("films", days=1, a_day=100, seed=2)
        found = made.look()
        assert found.figures["rows"] == {"reference": 300, "current": 100}
        assert found.figures["windows"]["reference"]["why"] == "pinned"


def test_a_used_up_reference_is_followed_by_newer_traffic(tmp_path: Path) -> None:
    """The next one is of watched traffic that is long and large enough, and never of the one used up."""
    with house(tmp_path) as made:
        made.traffic("films", days=10, a_day=50, seed=1)
        used = Period(ROUTE, MIDNIGHT, MIDNIGHT + 2 * DAY, "support@1")
        basis = Basis("support@1", "fake", MIDNIGHT)
        traffic = made.requests.traffic
        after = renewed(traffic, basis, used, options=OPTIONS, seen_at=MIDNIGHT + 10 * DAY)
        assert after.why == "exhausted"
        assert MIDNIGHT + 5.5 * DAY < after.since < MIDNIGHT + 6.5 * DAY  # 200 prompts take four days
        tight = renewed(traffic, basis, used, options=OPTIONS, seen_at=MIDNIGHT + 3 * DAY)
        assert tight.since == used.until


@pytest.mark.parametrize(("captured", "cause"), [(True, "concept"), (False, "feedback")])
def test_worse_feedback_is_an_alarm(tmp_path: Path, captured: bool, cause: str) -> None:
    """Thumbs that fall on the same inputs are concept drift; where no inputs are known, worse feedback."""
    with house(tmp_path) as made:
        numbers = iter(range(100_000))

        def rate(since: float, share: float) -> None:
            seen = made.requests.traffic.sample(Period(ROUTE, since, made.now), limit=10_000)
            made.control.feedback.add(
                *(
                    FeedbackRow(
                        each.id if captured else f"unknown-{number}", ROUTE, "support@1", None, "thumbs",
                        number % 20 < 20 * share, None, "k",
                        at=each.at + 30, unit=f"u-{number}", exposed_at=each.at,
                    )
                    for each, number in zip(seen, numbers, strict=False)
                )
            )  # fmt: skip

        made.traffic("films", days=3, a_day=200, seed=1)
        rate(MIDNIGHT, 0.9)
        assert made.look().figures["severity"] == "ignore"
        since = made.now
        made.traffic("films", days=2, a_day=300, seed=2)
        rate(since, 0.3)
        found = made.look()
        assert (found.figures["severity"], found.figures["cause"]) == ("retrain", cause)
        assert found.figures["ratings"]["thumbs"]["before"]["value"] == pytest.approx(0.9, abs=0.02)


def test_a_clock_set_back_counts_nothing_twice(tmp_path: Path) -> None:
    """After a look in the future, one in the past finds nothing new, and the next goes on."""
    with house(tmp_path) as made:
        made.traffic("films", days=4, a_day=100, seed=1)
        counted = made.look().figures["rows"]["current"]
        end = made.now
        made.now += 1000 * DAY
        assert made.look().figures["rows"]["current"] == counted
        made.now = end - 2 * DAY
        assert made.look().figures["rows"]["current"] == counted
        made.now = end
        made.traffic("films", days=1, a_day=100, seed=2)
        assert made.look().figures["rows"]["current"] == counted + 100


class _Killed(BaseException):
    """Stands in for kill -9: nothing of the process runs after it."""


def _dying(work: Callable[..., Any], at: list[int], *, after: bool) -> Callable[..., Any]:
    """Return `work` that dies before or after the call at which `at` has run down."""

    def call(*arguments: Any, **named: Any) -> Any:
        at[0] -= 1
        if at[0] == 0 and not after:
            raise _Killed
        done = work(*arguments, **named)
        if at[0] == 0:
            raise _Killed
        return done

    return call


def _story(made: House, *, killed: bool) -> dict[str, Any]:
    """Let days pass with a look after each, and return the last figures; killed between any two writes."""
    made.traffic("films", days=2.5, a_day=120, seed=1)
    made.look()
    for seed in range(2, 4):
        made.traffic("films", days=1.5, a_day=120, seed=seed)
        if killed:
            deaths = 0
            for count in range(1, 30):
                for after in (False, True):
                    left = [count]
                    watches, kept = made.control.watches, made.requests.embeddings
                    original = watches.commit, kept.add
                    watches.commit = _dying(original[0], left, after=after)  # type: ignore[method-assign]
                    kept.add = _dying(original[1], left, after=after)  # type: ignore[method-assign]
                    try:
                        made.look(made.new_watcher())
                    except _Killed:
                        deaths += 1
                    finally:
                        watches.commit, kept.add = original  # type: ignore[method-assign]
                    made.now -= 2 * made.options.settle_s
                if left[0] > 0:
                    break
            assert deaths >= 2
        found = made.look(made.new_watcher())
    return {name: found.figures[name] for name in ("rows", "streams", "evidence", "detector", "ratings")}


def test_killed_anywhere_it_counts_every_row_once(tmp_path: Path) -> None:
    """Ended before and after each of its writes, and started again, it finds what it finds undisturbed."""
    with house(tmp_path / "calm") as made:
        undisturbed = _story(made, killed=False)
    with house(tmp_path / "killed") as made:
        disturbed = _story(made, killed=True)
    assert disturbed["rows"] == undisturbed["rows"]
    assert disturbed["detector"]["evidence"] == pytest.approx(undisturbed["detector"]["evidence"])


def test_a_lost_lease_ends_the_look(tmp_path: Path) -> None:
    """A watcher that was frozen until another one looked writes nothing."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=100, seed=1)
        route = made.control.routes.get(ROUTE)
        assert route is not None
        epoch = made.control.fleet.acquire(lease_name(ROUTE), "frozen", ttl_s=60)
        assert epoch is not None
        made.control.fleet.release(lease_name(ROUTE), "frozen")
        made.look()
        stood = made.control.watches.get(ROUTE)
        with pytest.raises(LeaseLost):
            made.new_watcher().look(route, routes=1, epoch=epoch)
        assert made.control.watches.get(ROUTE) == stood


def test_a_state_of_another_version_begins_anew(tmp_path: Path) -> None:
    """What can't be read is said, and the route gets a new reference from what there is."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=100, seed=1)
        made.look()
        stood = made.control.watches.get(ROUTE)
        assert stood is not None
        epoch = made.control.fleet.acquire(lease_name(ROUTE), "me", ttl_s=60)
        assert epoch is not None
        broken = replace(stood, looks=stood.looks + 1, state={"detector": {"version": 0}, "ratings": {}})
        made.control.watches.commit(broken, epoch=epoch)
        assert "begins anew" in made.look(made.new_watcher()).sentence
        assert made.look(made.new_watcher()).figures["severity"] == "ignore"


def test_a_failed_look_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is kept until a look is made; the store's own failure is not the route's."""
    with house(tmp_path) as made:
        route = made.control.routes.get(ROUTE)
        assert route is not None
        epoch = made.control.fleet.acquire(lease_name(ROUTE), "me", ttl_s=60)
        assert epoch is not None
        made.watcher.failed(route, ValueError("no model"), epoch=epoch)
        stood = made.control.watches.get(ROUTE)
        assert stood is not None
        assert (stood.failed, stood.error) == (1, "no model")
        made.look()
        stood = made.control.watches.get(ROUTE)
        assert stood is not None
        assert (stood.failed, stood.error) == (1, None)

        def down(*_: object) -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(made.requests.traffic, "bounds", down)
        with pytest.raises(StoreUnavailable):
            made.look()
