"""The bound: workers that share a limit through the store never use more than it together."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.limits.window import WINDOW_S
from tests.gateway.limits.made import Clock, MemoryStore, Worker

LIMIT = 20
WORKERS = 3
WHICH = st.integers(0, WORKERS - 1)


class Sharing(RuleBasedStateMachine):
    """Workers take, settle, exchange, die, freeze and lose answers of the store, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.store = Clock(), MemoryStore()
        self.numbers = itertools.count()
        self.workers = [self.new() for _ in range(WORKERS)]
        self.spent: list[Any] = [None] * WORKERS
        self.used: list[tuple[float, int]] = []
        self.concurrent: dict[str, int] = {}

    def new(self) -> Worker:
        return Worker(f"w{next(self.numbers)}", self.store, self.clock, workers=WORKERS)

    @rule(which=WHICH, amount=st.integers(1, 7))
    def take(self, which: int, amount: int) -> None:
        """A request comes; the exchange that it may need comes whole."""
        if self.workers[which].take("shop", "requests", LIMIT, amount) is not None:
            self.used.append((self.clock.now, amount))
        self.spent[which] = None if self.workers[which].turn is None else self.spent[which]

    @rule(which=WHICH)
    def begin(self, which: int) -> None:
        """An exchange begins; one that was under way never ends."""
        self.workers[which].begin()
        self.spent[which] = None

    @rule(which=WHICH)
    def commit(self, which: int) -> None:
        """The store does its part, and whether the worker hears of it is open."""
        if self.workers[which].turn is not None and self.spent[which] is None:
            self.spent[which] = self.workers[which].commit()

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        """The worker hears."""
        spent, self.spent[which] = self.spent[which], None
        if spent is not None and self.workers[which].turn is not None:
            self.workers[which].end(spent)

    @rule(which=WHICH)
    def die(self, which: int) -> None:
        """A worker is killed; another one takes its place."""
        self.workers[which], self.spent[which] = self.new(), None

    @rule(seconds=st.one_of(st.floats(0, 2), st.floats(0, 40)))
    def wait(self, seconds: float) -> None:
        """Time goes by, for a worker that stands still too."""
        self.clock.now += seconds

    @invariant()
    def within_the_limit(self) -> None:
        """No window holds more than the limit."""
        horizon = self.clock.now - WINDOW_S
        assert sum(amount for at, amount in self.used if at >= horizon) <= LIMIT


TestSharing = Sharing.TestCase
TestSharing.settings = settings(
    max_examples=15,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=True,
)


def _crowd(workers: int) -> tuple[Clock, MemoryStore, list[Worker]]:
    clock, store = Clock(), MemoryStore()
    return clock, store, [Worker(f"w{i}", store, clock, workers=workers) for i in range(workers)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_all_of_it_is_used(workers: int) -> None:
    """Whoever asks, a limit is used up to the last one, in one worker alone or in all in turn."""
    for who in (lambda i: 0, lambda i: i % workers):  # noqa: ARG005
        _, store, crowd = _crowd(workers)
        taken = [crowd[who(i)].take("shop", "requests", 100, 1) is not None for i in range(300)]
        assert sum(taken) == 100
        assert store.exchanges < 60  # and not one for each


def test_what_is_held_is_given_back() -> None:
    """A worker that had to refuse while another one held gets it within two exchanges of that one."""
    clock, _, (one, other) = _crowd(2)
    assert one.take("shop", "requests", 9, 1) is not None
    got = 0
    for _ in range(4):
        while other.take("shop", "requests", 9, 1) is not None:
            got += 1
        clock.now += 1.0
        one.exchange()
        other.exchange()
    assert got == 8


def _burst(crowd: list[Worker]) -> int:
    """Let every worker take all that it can of a limit; how much that was."""
    return sum(
        worker.take("shop", "requests", LIMIT, 1) is not None for worker in crowd for _ in range(LIMIT)
    )


@pytest.mark.parametrize("before", [0, 15, 20])
def test_while_the_store_is_away(before: int) -> None:
    """Each worker goes on with its part: at most twice the limit in the first minute, then the limit."""
    clock, store, crowd = _crowd(4)
    for worker in crowd:
        worker.exchange()
    used = [(clock.now, sum(crowd[0].take("shop", "requests", LIMIT, 1) is not None for _ in range(before)))]
    store.away = True
    for second in range(200):
        for worker in crowd:
            worker.exchange()
        clock.now += 1.0
        used.append((clock.now, _burst(crowd)))
        within = sum(amount for at, amount in used if at >= clock.now - WINDOW_S)
        assert within <= (2 * LIMIT if second <= 2 * WINDOW_S + 2 else LIMIT)
    assert within > 0  # it goes on
    store.away = False
    for _ in range(2):
        for worker in crowd:
            worker.exchange()
        clock.now += WINDOW_S + 2
    for worker in crowd:
        worker.exchange()
    assert _burst(crowd) == LIMIT


def test_a_worker_that_died_is_forgotten() -> None:
    """What a killed worker used and held counts until all of it has left the window, and not for ever."""
    clock, store, (one, other) = _crowd(2)
    assert one.take("shop", "requests", 10, 5) is not None
    for _ in range(64):
        clock.now += 1.0
        other.exchange()
    assert other.take("shop", "requests", 10, 10) is None
    for _ in range(3):
        clock.now += 1.0
        other.exchange()
    assert other.take("shop", "requests", 10, 10) is not None
    assert set(store.claims) == {"w1"}


def test_places_of_requests_under_way() -> None:
    """Places at once are shared too: never more than the limit, and given back when a request ends."""
    clock, _, crowd = _crowd(2)
    asked = [crowd[i % 2] for i in range(40)]
    taken = [worker for worker in asked if worker.take("shop", "concurrent", 5, 1) is not None]
    assert len(taken) == 5
    taken.pop().ledger.account("tenant", "shop", "concurrent", 5).settle(clock.now, 0, 1, 0)
    clock.now += 1.0
    for worker in crowd * 2:
        worker.exchange()
    assert sum(worker.take("shop", "concurrent", 5, 1) is not None for worker in crowd * 3) == 1
