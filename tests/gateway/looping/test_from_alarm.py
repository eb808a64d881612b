"""From the monitor's own alarm to a run of the loop: the two sides on the same stores."""

from pathlib import Path

import pytest

from gateway.store.feedback import FeedbackRow
from tests.gateway.looping.world import World
from tests.monitoring.made import ROUTE
from tests.monitoring.watch.made import DAY
from tests.monitoring.watch.made import House as Watch

pytestmark = pytest.mark.slow


def test_an_alarm_of_the_watch_begins_a_run(tmp_path: Path) -> None:
    """The run names the look, and traffic is new from about when it changed; a quiet look begins nothing."""
    world = World(tmp_path)
    store = world.house.store
    world.house.requests_db.migrate()
    looper = world.looper()
    try:
        watch = Watch(store, world.house.requests)
        watch.traffic("films", days=3, a_day=200, seed=1)
        assert watch.look().figures["severity"] == "ignore"
        watch.traffic("films", days=1, a_day=400, seed=2)
        assert watch.look().figures["severity"] == "ignore"
        changed = watch.now
        ratings = (
            FeedbackRow(
                f"req-{number}", ROUTE, "support@1", None, "thumbs", True, None, "k",
                at=changed + DAY / 2, unit=f"u-{number}", exposed_at=changed + DAY / 2,
            )
            for number in range(300)
        )  # fmt: skip
        store.feedback.add(*ratings)
        world.wall = watch.now
        world.look(looper)
        assert world.runs == 0
        watch.traffic("cooking", days=0.5, a_day=800, seed=9)
        assert watch.look().figures["severity"] == "retrain"
        world.wall = watch.now
        world.look(looper)
        (found,) = store.loops.findings()[ROUTE]
        assert (world.run.trigger, world.run.cause, world.run.drift_id) == ("drift", "drift", found.id)
        assert store.drift.rows(ROUTE, limit=1)[0].id == found.id
        assert changed - DAY / 4 < found.since <= watch.now
    finally:
        world.close()
