"""Pairs of answers are removed when they were kept long enough, in small steps."""

import asyncio
from pathlib import Path

import pytest

from gateway.controller.clock import Clock
from gateway.controller.pruner import Pruner, PrunerConfig
from gateway.store.database import Database, StoreUnavailable
from gateway.store.requests import Requests
from gateway.store.shadows import Pair, ShadowPairs

START = 1_700_000_000
DAY_S = 86_400
CLOCK = Clock(monotonic=lambda: 1_000.0, wall=lambda: START + 10 * DAY_S)
CONFIG = PrunerConfig(retention_s=3 * DAY_S, step_rows=4, pause_s=0.0, most_steps=100)


@pytest.fixture
def pairs(tmp_path: Path) -> ShadowPairs:
    """Ten days of pairs, three a day."""
    database = Database(f"sqlite:///{tmp_path}/requests.db", "requests", durable=False)
    database.migrate()
    made = Requests(database).pairs
    for number in range(30):
        made.add(pair(number))
    return made


def pair(number: int) -> Pair:
    """One pair; three are of a day."""
    at = START + number * DAY_S / 3
    return Pair(
        id=f"req-{int(at):08x}{number:024x}", shadow_id=f"s{number}", at=at, endpoint="completions",
        route="r", adapter="a@1", shadow="a@2", prompt="p", answer="x", shadow_answer="y", shadow_status=200,
        shadow_error=None, finish_reason="stop", shadow_finish_reason="stop", completion_tokens=1,
        shadow_completion_tokens=1, latency_ms=1.0, shadow_latency_ms=1.0,
    )  # fmt: skip


def test_what_is_old_goes(pairs: ShadowPairs) -> None:
    """What is younger than the retention stays, all else goes; a second time removes nothing."""
    for _ in range(2):
        asyncio.run(Pruner(pairs, config=CONFIG, clock=CLOCK).prune())
        assert [kept.id for kept in reversed(pairs.rows("r"))] == [pair(n).id for n in range(21, 30)]


def test_a_step_is_bounded(pairs: ShadowPairs) -> None:
    """One step removes so many at most, the oldest first."""
    assert pairs.remove(before=START + 10 * DAY_S, limit=4) == 4
    assert pairs.rows("r", limit=100)[-1].id == pair(4).id
    assert pairs.remove(before=0.0, limit=4) == 0


def test_steps_are_bounded(pairs: ShadowPairs) -> None:
    """What is left after the most steps waits for the next time."""
    config = PrunerConfig(retention_s=0.0, step_rows=4, pause_s=0.0, most_steps=2)
    asyncio.run(Pruner(pairs, config=config, clock=CLOCK).prune())
    assert len(pairs.rows("r")) == 22


def test_it_is_started_when_it_is_due(pairs: ShadowPairs) -> None:
    """Once in its time, never beside itself; stopping it forgets nothing."""
    now = [0.0]
    clock = Clock(monotonic=lambda: now[0], wall=CLOCK.wall)

    async def run() -> list[bool]:
        pruner = Pruner(pairs, config=CONFIG, clock=clock)
        begun = []
        for at in (0.0, 1.0, 700.0, 701.0):
            now[0] = at
            pruner.start()
            running = pruner._running
            begun.append(running is not None)
            if running is not None and at:
                await running
                await asyncio.sleep(0)
        await pruner.stop()
        return begun

    assert asyncio.run(run()) == [True, True, True, False]
    assert len(pairs.rows("r")) == 9


def test_a_store_that_is_down(pairs: ShadowPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks: the next time is soon enough."""

    def down(**_: object) -> int:
        raise StoreUnavailable("down")

    monkeypatch.setattr(pairs, "remove", down)
    asyncio.run(Pruner(pairs, config=CONFIG, clock=CLOCK).prune())
