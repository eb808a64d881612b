"""The circuit breaker and the retry budget: states by what happened and when."""

import asyncio

import pytest

from gateway.errors import Unavailable
from gateway.replicas.breaker import FAILURES_IN_A_ROW, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker, Circuit
from gateway.replicas.budget import RetryBudget
from gateway.replicas.pool import Pool
from gateway.upstream.origin import Origin

CLOSED, HALF_OPEN, OPEN = Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN


def happen(breaker: Breaker, *events: tuple[float, str]) -> list[Circuit]:
    """Let things happen at their times; the state after each."""
    states = []
    for now, event in events:
        if event == "succeeded":
            breaker.succeeded()
        else:
            getattr(breaker, event)(now)
        states.append(breaker.circuit)
    return states


def test_failures_in_a_row_open_it() -> None:
    """Only failures with no success between them open the circuit."""
    breaker = Breaker()
    almost = [(0.0, "failed")] * (FAILURES_IN_A_ROW - 1)
    assert set(happen(breaker, *almost, (0.0, "succeeded"), *almost)) == {CLOSED}
    assert happen(breaker, (0.0, "failed")) == [OPEN]


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ([(0.0, "sick"), (0.5, "well"), (1.1, "well"), (1.2, "succeeded")], [OPEN, OPEN, HALF_OPEN, CLOSED]),
        ([(0.0, "sick"), (1.1, "well"), (1.2, "failed"), (2.9, "well")], [OPEN, HALF_OPEN, OPEN, OPEN]),
        ([(0.0, "sick"), (1.1, "well"), (1.2, "failed"), (3.3, "well")], [OPEN, HALF_OPEN, OPEN, HALF_OPEN]),
        ([(0.0, "sick"), (1.1, "well"), (1.2, "sick")], [OPEN, HALF_OPEN, OPEN]),
        ([(0.0, "sick"), (5.0, "succeeded")], [OPEN, OPEN]),
        ([(0.0, "well"), (0.0, "succeeded")], [CLOSED, CLOSED]),
    ],
)
def test_the_way_back(events: list[tuple[float, str]], states: list[Circuit]) -> None:
    """After the pause a good health check makes it half open; the next request's outcome decides."""
    assert FIRST_PAUSE_S == 1.0
    assert happen(Breaker(), *events) == states


def test_the_pause_grows_to_a_bound_and_starts_anew() -> None:
    """Each failed trial doubles the pause up to the longest; a success makes the next one short again."""
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(8):
        breaker.sick(now)
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.well(now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, LONGEST_PAUSE_S]
    breaker.succeeded()
    breaker.sick(now)
    assert breaker.open_until - now == FIRST_PAUSE_S


@pytest.mark.parametrize(
    ("events", "last_resort"),
    [
        (["broken"] * 5, True),
        (["broken"] * 4 + ["failed"], False),
        (["failed"] + ["broken"] * 4, False),
        (["failed", "succeeded"] + ["broken"] * 5, True),
        (["broken"] * 5 + ["sick"], False),
        (["broken"] * 5 + ["failed"], False),
        (["sick"] + ["broken"] * 5, False),
    ],
)
def test_what_makes_a_last_resort(events: list[str], last_resort: bool) -> None:
    """Only broken connections have opened the circuit, and the health check has not failed since."""
    breaker = Breaker()
    for event in events:
        if event == "succeeded":
            breaker.succeeded()
        elif event == "sick":
            breaker.sick(0.0)
        else:
            breaker.failed(0.0, connection=event == "broken")
    assert (breaker.circuit, breaker.last_resort) == (OPEN, last_resort)
    assert breaker.well(FIRST_PAUSE_S)
    assert breaker.succeeded()
    assert breaker.last_resort


def test_a_last_resort_is_better_than_nobody() -> None:
    """Broken connections take a replica out only while another serves; a bad health check always does."""

    async def work() -> None:
        p = Pool(limit_per_replica=1, max_queue=8, queue_timeout_s=5.0)
        both = {name: Origin(name, 1, tls=False) for name in "ab"}
        p.update(both, {"v@1": ("a", "b")}, {"v@1": ("a",)})
        a, b = p.replicas
        for _ in range(FAILURES_IN_A_ROW):
            p.failed(a, connection=True)
        assert a.open
        standby = await p.lease("v@1")
        standby.release()
        assert standby.replica is b
        assert not p.serves("v@1", tried=frozenset({"a", "b"}))
        p.sick(b)
        held = await p.lease("v@1")
        assert held.replica is a
        waiting = asyncio.create_task(p.lease("v@1"))
        await asyncio.sleep(0)
        assert p.waiting == 1
        p.sick(a)
        with pytest.raises(Unavailable):
            await waiting
        held.release()
        assert (p.leased, p.waiting) == (0, 0)

    asyncio.run(work())


def test_the_budget_is_a_tenth_of_the_requests() -> None:
    """Beyond a small reserve, one retry is allowed for every ten requests."""
    requests = [0]
    budget = RetryBudget(lambda: requests[0], share=0.1, most=2.0)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    requests[0] += 9
    assert not budget.take()
    requests[0] += 1
    assert [budget.take() for _ in range(2)] == [True, False]
    requests[0] += 1_000_000
    assert [budget.take() for _ in range(3)] == [True, True, False]
