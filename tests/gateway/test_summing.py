"""The controller sums usage up beside its turns, and a store that fails ends nothing."""

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

from gateway.controller import summing as summing_module
from gateway.controller.clock import Clock
from gateway.controller.summing import EVERY_S, HOURS_AT_ONCE, WRITTEN_S, Summing
from gateway.store.database import StoreUnavailable


@dataclass
class Book:
    """Stands in for the store's usage."""

    asked: list[float] = field(default_factory=list)
    error: Exception | None = None

    left: int = 2

    def sum_up(self, *, settled_until: float, most_hours: int) -> int:
        """Note the call."""
        self.asked.append(settled_until)
        if self.error is not None:
            raise self.error
        done = min(most_hours, self.left)
        self.left -= done
        return done


@dataclass
class Hands:
    """A clock that a test sets."""

    now: float = 10_000.0

    def clock(self) -> Clock:
        """Return it as controllers take it."""
        return Clock(wall=lambda: self.now + 1e6, monotonic=lambda: self.now)


async def run(summing: Summing) -> None:
    """Do what a turn does, and let it end."""
    summing.start()
    summing.start()
    if summing._running is not None:
        await asyncio.wait((summing._running,))


@pytest.mark.parametrize("error", [None, StoreUnavailable("away"), RuntimeError("a fault")])
def test_it_is_done_now_and_then(error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """Once in a while, up to when no request can still be written, also after a time that failed."""
    book, hands = Book(error=error), Hands()
    summing = Summing(book, longest_s=1800.0, clock=hands.clock())  # type: ignore[arg-type]  # a stand-in

    async def work() -> None:
        await run(summing)
        await run(summing)
        hands.now += EVERY_S
        await run(summing)
        await asyncio.sleep(0)
        await summing.stop()

    with caplog.at_level(logging.INFO):
        asyncio.run(work())
    first = 10_000.0 + 1e6 - 1800.0 - WRITTEN_S
    assert book.asked == [first, first + EVERY_S]
    assert len(caplog.records) == (1 if error is None else 2)


def test_what_was_missed_is_caught_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long time without a controller it goes on until nothing is left, with pauses in between."""
    monkeypatch.setattr(summing_module, "PAUSE_S", 0.0)
    book = Book(left=2 * HOURS_AT_ONCE + 1)
    asyncio.run(Summing(book, longest_s=1.0, clock=Hands().clock()).sum_up())  # type: ignore[arg-type]  # a stand-in
    assert (book.left, len(book.asked)) == (0, 3)
