"""What passes, what is refused, and how a request is settled, whatever became of it."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import Limits
from gateway.core.requests import Principal, Role
from gateway.errors import LimitReached, TooLarge, TurnoutError
from gateway.limits.limiter import Passage
from tests.gateway.limits.made import Clock, MemoryStore, Worker, book, passage, row


@pytest.fixture
def worker() -> Worker:
    """One worker, whose exchanges happen at once."""
    return _worker()


def _worker() -> Worker:
    made = Worker("w0", MemoryStore(), Clock())

    async def at_once() -> None:
        made.exchange()

    made.ledger._exchanged = at_once  # type: ignore[method-assign]
    return made


def admit(begun: Passage, *, body_bytes: int = 400, route: str | None = None, generates: bool = True) -> Any:
    """Let a request pass; return the error that refuses it."""
    begun.enter_route(route)
    try:
        asyncio.run(begun.admit(body_bytes, generates=generates))
    except TurnoutError as error:
        return error
    return None


def used(worker: Worker) -> dict[str, int]:
    """What every account has used now."""
    now = worker.clock.now
    return {str(owner): account.used(now) for owner, account in worker.ledger.accounts.items()}


def test_without_limits_there_is_nothing(worker: Worker) -> None:
    """Nobody's request has a passage while there are no limits, and only those it can concern otherwise."""
    nobody = Principal("k2", "other", frozenset(Role))
    worker.limiter.take_book(book(tenant=Limits(weight=3.0)))
    assert worker.limiter.book is None
    worker.limiter.take_book(book(tenant=Limits(requests_per_minute=1)))
    assert worker.limiter.begin(nobody) is None
    worker.limiter.take_book(book(route=Limits(requests_per_minute=1)))
    begun = worker.limiter.begin(nobody)
    assert begun is not None
    assert admit(begun, route="another") is None
    assert used(worker) == {}


@pytest.mark.parametrize(
    ("limits", "kind", "message"),
    [
        (Limits(requests_per_minute=2), "requests", "2 requests per minute"),
        (Limits(tokens_per_minute=250), "tokens", "250 tokens per minute"),
        (Limits(concurrent=2), "concurrent", "2 requests at once"),
        (Limits(tokens_per_day=250), "day", "250 tokens per day"),
        (Limits(tokens_per_month=250), "month", "250 tokens per month"),
    ],
)
@pytest.mark.parametrize("scope", ["key", "tenant", "route"])
def test_what_is_refused(worker: Worker, scope: str, limits: Limits, kind: str, message: str) -> None:
    """Two requests pass and the third is refused by whoever has the limit; it takes nothing of the others."""
    both = book(**{"key": Limits(requests_per_minute=100), scope: limits})
    for _ in range(2):
        assert admit(passage(worker, both), route="support") is None
    before = used(worker)
    error = admit(passage(worker, both), route="support")
    assert isinstance(error, LimitReached)
    budget = kind in ("day", "month")
    assert (error.code, error.status) == ("insufficient_quota" if budget else "rate_limit_exceeded", 429)
    assert error.message == f"the {scope}'s limit of {message} is reached"
    assert error.retry_after_s is not None
    assert error.retry_after_s >= 1
    assert worker.refused == [(scope, kind)]
    assert used(worker) == before


def test_a_minute_later(worker: Worker) -> None:
    """What was refused passes after the time that was named, and not before."""
    limits = book(key=Limits(requests_per_minute=3))
    for wait_s in (0.0, 20.0, 10.0):
        worker.clock.now += wait_s
        assert admit(passage(worker, limits)) is None
    worker.clock.now += 1.0
    error = admit(passage(worker, limits))
    assert error.retry_after_s == 30.0
    worker.clock.now += error.retry_after_s - 0.1
    worker.exchange()
    assert admit(passage(worker, limits)) is not None
    worker.clock.now += 0.1
    worker.exchange()
    assert admit(passage(worker, limits)) is None


def test_what_can_never_pass(worker: Worker) -> None:
    """A prompt above the minute's tokens and a body above its limit are 413s, which no client repeats."""
    small = book(tenant=Limits(tokens_per_minute=50, max_body_bytes=1000))
    assert isinstance(admit(passage(worker, small), body_bytes=900), TooLarge)
    with pytest.raises(TooLarge, match="the tenant's limit of 1000 bytes"):
        passage(worker, small).check_body(1001)
    assert worker.refused == [("tenant", "tokens"), ("tenant", "max_body_bytes")]


@pytest.mark.parametrize(
    ("told", "events", "tokens"),
    [
        ({"prompt_tokens": 70, "completion_tokens": 30}, 0, 100),
        ({"prompt_tokens": 200, "completion_tokens": 0}, 0, 200),
        ({"prompt_tokens": 70, "completion_tokens": None}, 9, 70),
        ({"status": 499, "streamed": True}, 40, 140),  # the client left a stream: what it got
        ({"status": 499, "streamed": True}, 0, 100),
        ({"status": 499}, 0, 164),  # nobody knows how far the engine was
        ({"status": 499, "attempts": 0}, 0, 0),  # it waited in the queue
        ({"status": 502}, 0, 0),
        ({"status": 502, "streamed": True}, 5, 105),
        ({"status": 429, "attempts": 0}, 0, 0),
    ],
)
def test_how_it_is_settled(worker: Worker, told: dict[str, Any], events: int, tokens: int) -> None:
    """A request that was taken for 100 tokens counts in the end as what it took, wherever tokens count."""
    limits = Limits(tokens_per_minute=1000, tokens_per_day=1000, concurrent=3, requests_per_minute=3)
    begun = passage(worker, book(tenant=limits))
    assert admit(begun) is None
    begun.settle(row(**told), events)
    begun.settle(row(**told), events)  # once only
    assert used(worker) == {
        "requests|tenant|shop": 1,
        "tokens|tenant|shop": tokens,
        "concurrent|tenant|shop": 0,
        "day|tenant|shop": tokens,
    }


def test_what_asks_no_engine_for_text(worker: Worker) -> None:
    """Counting tokens is a request, and takes none."""
    begun = passage(worker, book(tenant=Limits(tokens_per_minute=1, requests_per_minute=5)))
    assert admit(begun, generates=False) is None
    begun.settle(row(), 0)
    assert used(worker) == {"requests|tenant|shop": 1}


def test_a_budget_stays(worker: Worker) -> None:
    """What was spent is in the store, for another worker too, whatever becomes of the one that spent it."""
    limits = book(tenant=Limits(tokens_per_day=150))
    begun = passage(worker, limits)
    assert admit(begun) is None
    begun.settle(row(prompt_tokens=90, completion_tokens=30), 0)
    worker.exchange()
    assert worker.store.tokens == {("tenant", "shop", "day"): 120}
    other = _worker()
    other.store = other.ledger._store = worker.store
    assert admit(passage(other, limits)) is not None
    assert admit(passage(other, limits), body_bytes=100) is None


def test_how_a_client_stands(worker: Worker) -> None:
    """It is told of the tightest of its key's and its tenant's limits, and of no route's."""
    limits = book(
        key=Limits(requests_per_minute=10),
        tenant=Limits(requests_per_minute=4, tokens_per_minute=1000),
        route=Limits(requests_per_minute=2),
    )
    begun = passage(worker, limits)
    assert admit(begun, route="support") is None
    standing = begun.standing("requests")
    assert standing is not None
    assert (standing.limit, standing.remaining, standing.full_in_s) == (4, 3, 61.0)
    tokens = begun.standing("tokens")
    assert tokens is not None
    assert (tokens.limit, tokens.remaining) == (1000, 900)
    assert begun.standing("day") is None


def test_estimates_are_learnt(worker: Worker) -> None:
    """What engines count moves what is guessed of the next request, within bounds."""
    estimates = worker.limiter.estimates
    assert estimates.prompt(400) == 100
    for _ in range(200):
        estimates.learn(400, 200, 10)
    assert (estimates.prompt(400), estimates.answer()) == (199, 10)
    for _ in range(200):
        estimates.learn(400, 10**9, None)
    assert 398 <= estimates.prompt(400) <= 400
    assert estimates.prompt(0) == 1


STORY = st.lists(
    st.tuples(
        st.integers(1, 4000),
        st.one_of(st.none(), st.integers(0, 3000)),
        st.integers(0, 500),
        st.sampled_from([200, 499, 502]),
        st.booleans(),
        st.floats(0, 90),
    ),
    max_size=40,
)


@settings(max_examples=20, deadline=None)
@given(STORY)
def test_nothing_falls_below_nothing(story: list[tuple[int, int | None, int, int, bool, float]]) -> None:
    """Whatever is guessed, counted and settled, and when: no account is ever negative."""
    worker = _worker()
    limits = book(
        tenant=Limits(tokens_per_minute=2000, concurrent=2, tokens_per_day=20_000, tokens_per_month=30_000)
    )
    open_: list[tuple[Passage, Any, int]] = []
    for size, prompt, completion, status, streamed, wait_s in story:
        begun = passage(worker, limits)
        if admit(begun, body_bytes=size) is None:
            told = row(status=status, streamed=streamed, prompt_tokens=prompt, completion_tokens=completion)
            open_.append((begun, told, completion))
        worker.clock.now += wait_s
        if len(open_) > 1:
            begun, told, events = open_.pop(0)
            begun.settle(told, events)
        with suppress(TurnoutError):
            worker.exchange()
        assert all(amount >= 0 for amount in used(worker).values())
        assert all(account.held >= 0 for account in worker.ledger.accounts.values())
    for begun, told, events in open_:
        begun.settle(told, events)
    assert all(amount >= 0 for amount in used(worker).values())
    assert worker.ledger.account("tenant", "shop", "concurrent", 2).used(0.0) == 0
