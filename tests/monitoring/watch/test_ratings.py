"""Ratings as the watch takes them: of the whole reference, none hidden, each on the scale it was given on."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.routes import Metric
from gateway.store.feedback import FeedbackRow
from gateway.store.traffic import Period
from gateway.store.watches import lease_name
from monitoring.watch import ratings
from tests.monitoring.made import ROUTE, put_route
from tests.monitoring.watch.made import DAY, MIDNIGHT, OPTIONS, House, house

pytestmark = pytest.mark.slow

Value = Callable[[random.Random, float], Any]


def _rate(made: House, metric: str, value: Value, *, since: float, until: float, a_day: int) -> int:
    """Rate requests that were not captured, each by a subject of its own; return how many."""
    count, draw = round((until - since) / DAY * a_day), random.Random(since)
    times = [since + place * DAY / a_day for place in range(count)]
    made.control.feedback.add(
        *(
            FeedbackRow(
                f"req-{draw.getrandbits(128):032x}", ROUTE, "support@1", None, metric, value(draw, at), None,
                "k", at=at + 30, unit=f"unit-{draw.getrandbits(40):x}", exposed_at=at,
            )
            for at in times
        )
    )  # fmt: skip
    return count


def _liked(share: float) -> Value:
    return lambda draw, _: draw.random() < share


def _weekly(draw: random.Random, at: float) -> bool:
    return draw.random() < (0.7 if (at - MIDNIGHT) // DAY % 7 >= 5 else 0.95)


def _kept(made: House, metric: str) -> dict[str, Any]:
    stands = made.control.watches.get(ROUTE)
    assert stands is not None
    kept: dict[str, Any] = stands.state["ratings"][metric]
    return kept


def test_weekends_of_a_busy_metric_are_in_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more ratings than a reference takes some of every day are drawn, and all of them set the pace."""
    monkeypatch.setattr(ratings, "_MOST_OF_A_REFERENCE", 800)
    with house(tmp_path, replace(OPTIONS, min_days=7)) as made:
        made.traffic("films", days=7.2, a_day=40, seed=1)
        _rate(made, "thumbs", _weekly, since=MIDNIGHT, until=made.now, a_day=400)
        found = made.look()
        before = found.figures["ratings"]["thumbs"]["before"]
        assert before["value"] == pytest.approx((5 * 0.95 + 2 * 0.7) / 7, abs=0.03)
        assert before["tolerance"] > 0.15  # twice the deviation of days
        options = _kept(made, "thumbs")["state"]["options"]
        assert options["run_length"] == pytest.approx(400 * 30 * 8, rel=0.01)
        for _ in range(7):
            since = made.now
            made.traffic("films", days=2, a_day=40, seed=round(since))
            _rate(made, "thumbs", _weekly, since=since, until=made.now, a_day=400)
            assert made.look().figures["severity"] == "ignore"


def test_a_late_rating_hides_no_other(tmp_path: Path) -> None:
    """One of a request of the reference that comes last: those of later requests before it count still."""
    with house(tmp_path) as made:
        made.traffic("films", days=4, a_day=200, seed=1)
        end = MIDNIGHT + 2 * DAY
        _rate(made, "thumbs", _liked(0.9), since=MIDNIGHT, until=end, a_day=100)
        later = _rate(made, "thumbs", _liked(0.9), since=end + 3600, until=made.now - 3600, a_day=100)
        _rate(made, "thumbs", _liked(1), since=MIDNIGHT + 60, until=MIDNIGHT + 61, a_day=86_400)
        found = made.look()
        assert found.figures["windows"]["reference"]["until"] < end + 3600
        assert found.figures["ratings"]["thumbs"]["ratings"] == later


def test_ratings_that_made_the_reference_do_not_count_again(tmp_path: Path) -> None:
    """Where those of later requests are needed to begin, only what comes after them is compared with them."""
    with house(tmp_path) as made:
        made.traffic("films", days=4, a_day=200, seed=1)
        _rate(made, "thumbs", _liked(0.9), since=MIDNIGHT, until=made.now - 3600, a_day=40)
        assert made.look().figures["ratings"]["thumbs"]["ratings"] == 0
        since = made.now
        made.traffic("films", days=1, a_day=200, seed=2)
        more = _rate(made, "thumbs", _liked(0.9), since=since, until=made.now - 3600, a_day=40)
        assert made.look().figures["ratings"]["thumbs"]["ratings"] == more


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        (Metric(better="lower"), Metric(better="higher"), _liked(0.1)),
        (
            Metric(type="number", range=(0, 5)),
            Metric(type="number", range=(0, 10)),
            lambda draw, _: draw.choice((3.0, 4.0, 5.0)),
        ),
    ],
)
def test_a_metric_on_another_scale_begins_anew(
    tmp_path: Path, before: Metric, after: Metric, value: Value
) -> None:
    """The same ratings read in another direction or range are no fall: what they meant is forgotten."""
    with house(tmp_path) as made:
        put_route(made.control, metrics={"said": before})
        made.promote()
        made.traffic("films", days=3, a_day=200, seed=1)
        _rate(made, "said", value, since=MIDNIGHT, until=made.now, a_day=200)
        first = made.look().figures["ratings"]["said"]["before"]["value"]
        put_route(made.control, metrics={"said": after})
        since = made.now
        made.traffic("films", days=1, a_day=200, seed=2)
        _rate(made, "said", value, since=since, until=made.now, a_day=200)
        found = made.look().figures
        assert found["severity"] == "ignore"
        assert found["ratings"]["said"]["before"]["value"] < first - 0.3
        assert [note for note in found["notes"] if "said" in note]
        again = made.look().figures
        assert again["ratings"]["said"]["ratings"] > 200
        assert (again["severity"], again["notes"]) == ("ignore", [])


def test_ratings_that_were_kept_without_a_scale_go_on(tmp_path: Path) -> None:
    """A state of before scales were kept is taken for one of today's scale."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=200, seed=1)
        _rate(made, "thumbs", _liked(0.9), since=MIDNIGHT, until=made.now, a_day=200)
        made.look()
        made.now += DAY / 24
        counted = made.look().figures["ratings"]["thumbs"]["ratings"]
        assert counted > 100
        stands = made.control.watches.get(ROUTE)
        assert stands is not None
        for kept in stands.state["ratings"].values():
            kept.pop("scale")
        epoch = made.control.fleet.acquire(lease_name(ROUTE), "me", ttl_s=60)
        assert epoch is not None
        made.control.watches.commit(replace(stands, looks=stands.looks + 1), epoch=epoch)
        found = made.look(made.new_watcher()).figures
        assert found["ratings"]["thumbs"]["ratings"] == counted
        assert _kept(made, "thumbs")["scale"] == ["bool", "higher", None]
        period = Period(ROUTE, MIDNIGHT, made.now)
        assert made.control.rated.metrics(period) == ["thumbs"]
