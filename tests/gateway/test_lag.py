"""How late the event loop is."""

import asyncio
import time

import pytest

from gateway.lag import SLOT_S, SLOTS, LoopLag


@pytest.mark.parametrize(
    ("samples", "at", "worst"),
    [
        ([], 100.0, 0.0),
        ([(100.0, 0.2), (101.0, 0.1)], 101.0, 0.2),
        ([(100.0, 0.2), (106.0, 0.1)], 106.0, 0.2),
        ([(100.0, 0.2), (106.0, 0.1)], 100.0 + SLOTS * SLOT_S, 0.1),
        ([(100.0, 0.2)], 200.0, 0.0),
        ([(100.0 + SLOT_S * n, 0.1 * n) for n in range(9)], 140.0, 0.8),
    ],
)
def test_the_worst_lately(samples: list[tuple[float, float]], at: float, worst: float) -> None:
    """The longest lag of the last slots counts, and what is older does not."""
    lag = LoopLag()
    for when, lag_s in samples:
        lag.note(lag_s, at=when)
    assert lag.worst_s(at) == pytest.approx(worst)


def test_a_step_that_takes_long_is_seen() -> None:
    """Whatever holds the loop shows as lag."""

    async def run() -> float:
        lag = LoopLag(every_s=0.001)
        task = asyncio.create_task(lag.run())
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251 - this is the fault
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return lag.worst_s()

    assert asyncio.run(run()) >= 0.04
