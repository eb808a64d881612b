"""Leases: who gets a place, who waits, who is refused, and that nothing is ever lost."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.errors import Overloaded, Unavailable, UpstreamTimeout
from gateway.replicas.in_flight import InFlight
from gateway.replicas.policies import least_loaded, round_robin
from gateway.replicas.pool import Lease, Pool
from gateway.replicas.replica import Replica
from gateway.upstream.origin import Origin

A, B = Origin("a", 1, tls=False), Origin("b", 1, tls=False)
BOTH = {"a": A, "b": B}


def pool(*, limit: int = 1, queue: int = 8, timeout_s: float = 5.0) -> Pool:
    """A pool of two replicas: `v@1` on both, `w@1` on `a` alone."""
    made = Pool(limit_per_replica=limit, max_queue=queue, queue_timeout_s=timeout_s)
    made.update(BOTH, {"v@1": ("a", "b"), "w@1": ("a",)})
    return made


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop of its own."""
    asyncio.run(work)


def loads(*in_flight: int, limit: int = 4) -> list[Replica]:
    """Replicas with these loads."""
    return [Replica(str(i), A, limit, load) for i, load in enumerate(in_flight)]


@pytest.mark.parametrize(
    ("in_flight", "turn", "picked"),
    [((2, 1, 3), 0, "1"), ((0, 0, 0), 0, "0"), ((0, 0, 0), 1, "1"), ((1, 0, 0), 3, "1"), ((4, 4, 3), 0, "2")],
)
def test_the_least_loaded_is_picked(in_flight: tuple[int, ...], turn: int, picked: str) -> None:
    """The free replica with the fewest requests is picked; among equals the turn decides."""
    replica = least_loaded(loads(*in_flight), turn=turn)
    assert replica is not None
    assert replica.id == picked


@pytest.mark.parametrize("in_flight", [(), (4,), (4, 4)])
def test_nobody_is_picked_when_all_are_full(in_flight: tuple[int, ...]) -> None:
    """A full replica is never picked."""
    assert least_loaded(loads(*in_flight), turn=0) is None


def test_a_lease_is_given_back_once() -> None:
    """Releasing twice frees one place."""

    async def work() -> None:
        p = pool(limit=2)
        first, second = await p.lease("w@1"), await p.lease("w@1")
        first.release()
        first.release()
        assert p.leased == 1
        second.release()
        assert p.leased == 0

    run(work())


def test_waiters_are_served_in_order() -> None:
    """A place that comes free goes to the first who can use it, past those who can't."""

    async def work() -> None:
        p = pool()
        on_a, on_b = await p.lease("w@1"), await p.lease("v@1")
        assert (on_a.replica.id, on_b.replica.id) == ("a", "b")
        order: list[str] = []

        async def wait(name: str, label: str) -> None:
            lease = await p.lease(label)
            order.append(f"{name}:{lease.replica.id}")
            lease.release()

        waiters = [asyncio.create_task(wait(*who)) for who in (("1", "w@1"), ("2", "v@1"), ("3", "v@1"))]
        await asyncio.sleep(0)
        assert p.waiting == 3
        on_b.release()
        await asyncio.gather(*waiters[1:])
        on_a.release()
        await waiters[0]
        assert order == ["2:b", "3:b", "1:a"]
        assert (p.leased, p.waiting) == (0, 0)

    run(work())


def test_refusals() -> None:
    """No replica: 503. A full queue: 429 at once. A wait that is too long: 504."""

    async def work() -> None:
        p = pool(queue=1, timeout_s=0.01)
        with pytest.raises(Unavailable):
            await p.lease("nowhere@1")
        held = await p.lease("w@1")
        with pytest.raises(Unavailable):
            await p.lease("w@1", tried=frozenset({"a"}))
        waiting = asyncio.create_task(p.lease("w@1"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await p.lease("w@1")
        assert refused.value.retry_after_s
        with pytest.raises(UpstreamTimeout):
            await waiting
        held.release()
        assert (p.leased, p.waiting) == (0, 0)

    run(work())


def test_a_new_table_serves_or_refuses_those_who_wait() -> None:
    """Who waits gets a place on a replica that the new table brings, and a 503 when it takes the last one."""

    async def work() -> None:
        p = pool()
        held = await p.lease("w@1")
        waiting = asyncio.create_task(p.lease("w@1"))
        await asyncio.sleep(0)
        p.update(BOTH, {"w@1": ("a", "b")})
        assert (await waiting).replica.id == "b"
        hopeless = asyncio.create_task(p.lease("w@1"))
        await asyncio.sleep(0)
        p.update({"b": B}, {"v@1": ("b",)})
        with pytest.raises(Unavailable):
            await hopeless
        held.release()  # of a replica that is gone

    run(work())


def test_counts_survive_a_new_table() -> None:
    """A replica that stays keeps its count; one that moved to another address starts anew."""

    async def work() -> None:
        p = pool(limit=3)
        leases = [await p.lease("w@1"), await p.lease("w@1")]
        p.update(BOTH, {"w@1": ("a",)})
        assert p.leased == 2
        p.update({"a": B}, {"w@1": ("a",)})
        assert p.leased == 0
        for lease in leases:
            lease.release()
        assert p.leased == 0

    run(work())


@pytest.mark.parametrize("seed", range(5))
def test_cancellation_under_contention_loses_no_place(seed: int) -> None:
    """Hundreds of leases, cancelled at random moments, the one of the hand-over included: none is lost."""

    async def work() -> None:
        rng = random.Random(seed)
        p = pool(limit=2, queue=1000)
        done = 0

        async def use(label: str) -> None:
            nonlocal done
            lease = await p.lease(label)
            try:
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                lease.release()
            done += 1

        tasks = [asyncio.create_task(use(rng.choice(["v@1", "w@1"]))) for _ in range(400)]
        while not all(task.done() for task in tasks):
            if rng.random() < 0.5:
                rng.choice(tasks).cancel()
            if rng.random() < 0.1:
                p.update(BOTH, {"v@1": ("a", "b"), "w@1": ("a",)})
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done > 0
        assert (p.leased, p.waiting) == (0, 0)
        again: list[Lease] = [await p.lease("v@1") for _ in range(4)]
        assert {lease.waited_s for lease in again} == {0.0}

    run(work())


def test_in_flight_counts_by_version() -> None:
    """Counts go up and down by label, and a version with none is absent."""
    counts = InFlight()
    for label in ("a@1", "a@1", "base"):
        counts.enter(label)
    assert (counts.counts(), counts.total) == ({"a@1": 2, "base": 1}, 3)
    counts.leave("a@1")
    counts.leave("base")
    assert counts.counts() == {"a@1": 1}


def test_an_open_circuit_takes_a_replica_out() -> None:
    """Nobody is leased a replica whose circuit is open; with all of them open, requests and waiters fail."""

    async def work() -> None:
        seen: list[tuple[str, int]] = []
        p = Pool(
            limit_per_replica=1,
            max_queue=8,
            queue_timeout_s=5.0,
            on_circuit=lambda replica: seen.append((replica.id, replica.breaker.circuit)),
        )
        p.update(BOTH, {"v@1": ("a", "b")})
        a, b = p.replicas
        p.sick(a)
        held = await p.lease("v@1")
        assert held.replica is b
        waiting = asyncio.create_task(p.lease("v@1"))
        await asyncio.sleep(0)
        p.sick(b)
        for attempt in (waiting, p.lease("v@1")):
            with pytest.raises(Unavailable) as refused:
                await attempt
            assert (refused.value.code, refused.value.retry_after_s) == ("circuit_open", 1.0)
        held.release()
        assert (p.leased, p.waiting, seen) == (0, 0, [("a", 2), ("b", 2)])

    run(work())


def test_a_half_open_circuit_lets_one_request_try() -> None:
    """While a circuit is half open one request more than before goes there; its success lets all through."""

    async def work() -> None:
        p = pool(limit=3)
        (old,) = [await p.lease("w@1")]
        a = old.replica
        p.sick(a)
        a.breaker.open_until = 0.0
        p.well(a)
        trial = await p.lease("w@1")
        behind = asyncio.create_task(p.lease("w@1"))
        await asyncio.sleep(0)
        assert (a.in_flight, p.waiting) == (2, 1)
        p.succeeded(a)
        third = await behind
        assert a.in_flight == 3
        for lease in (old, trial, third):
            lease.release()
        assert p.leased == 0

    run(work())


def test_a_new_share_serves_those_who_wait() -> None:
    """When the worker's share of the replicas grows, waiters get the new places at once."""

    async def work() -> None:
        p = pool(limit=1)
        first = await p.lease("w@1")
        waiting = asyncio.create_task(p.lease("w@1"))
        await asyncio.sleep(0)
        p.resize(limit_per_replica=2, max_queue=8)
        second = await waiting
        p.resize(limit_per_replica=1, max_queue=0)
        with pytest.raises(Overloaded):
            await p.lease("w@1")
        first.release()
        second.release()
        assert (p.leased, p.waiting) == (0, 0)

    run(work())


# --- homes -----------------------------------------------------------------------------------------------


def homely(*, limit: int = 2) -> Pool:
    """A pool in which `v@1` stands on both and is at home on `a`."""
    made = pool(limit=limit)
    made.update(BOTH, {"v@1": ("a", "b"), "w@1": ("b",)}, {"v@1": ("a",)})
    return made


def test_requests_go_home() -> None:
    """While the home has a free place no other replica gets a request, however idle it is."""

    async def work() -> None:
        p = homely()
        assert [(await p.lease("v@1")).replica.id for _ in range(2)] == ["a", "a"]

    run(work())


def test_a_full_home_overflows() -> None:
    """A standby takes what the home has no place for, so that nobody waits while a replica is free."""

    async def work() -> None:
        p = homely()
        assert [(await p.lease("v@1")).replica.id for _ in range(4)] == ["a", "a", "b", "b"]
        assert p.waiting == 0

    run(work())


def test_who_waits_gets_the_first_free_place_at_home_or_elsewhere() -> None:
    """A place that comes free on a standby goes to a waiter as one at home does."""

    async def work() -> None:
        p = homely(limit=1)
        await p.lease("v@1")
        elsewhere = await p.lease("w@1")
        waiter = asyncio.ensure_future(p.lease("v@1"))
        await asyncio.sleep(0)
        assert p.waiting == 1
        elsewhere.release()
        assert (await waiter).replica.id == "b"

    run(work())


def test_a_standby_takes_over_for_a_home_that_fails() -> None:
    """An open circuit at home, or a first attempt there, leads to the standby; with both gone to nobody."""

    async def work() -> None:
        p = homely()
        a, b = p.replicas
        assert (await p.lease("v@1", tried=frozenset({"a"}))).replica.id == "b"
        assert not p.serves("v@1", tried=frozenset({"a", "b"}))
        p.sick(a)
        assert (await p.lease("v@1")).replica.id == "b"
        p.sick(b)
        with pytest.raises(Unavailable) as caught:
            await p.lease("v@1")
        assert caught.value.code == "circuit_open"

    run(work())


def test_round_robin_takes_turns() -> None:
    """The replica whose turn it is, or the next one with a free place."""
    assert [round_robin(loads(3, 0, 0), turn=turn).id for turn in range(4)] == ["0", "1", "2", "0"]  # type: ignore[union-attr]
    assert round_robin(loads(4, 4, 0), turn=0).id == "2"  # type: ignore[union-attr]
    assert round_robin(loads(4, 4), turn=1) is None


def test_spare_places() -> None:
    """A spare place is one on a replica of which half stays free, while nobody waits and nothing is wrong."""

    async def work() -> None:
        p = pool(limit=2)
        first, second = p.spare("w@1"), p.spare("w@1")
        assert first is not None
        assert (first.replica.id, second, p.spare("x@1"), p.requests) == ("a", None, None, 0)
        other = p.spare("v@1")
        assert other is not None
        assert other.replica.id == "b"
        first.release()
        other.release()
        clients = [await p.lease("w@1") for _ in range(2)]
        waiting = asyncio.ensure_future(p.lease("w@1"))
        await asyncio.sleep(0)
        assert (p.waiting, p.spare("v@1")) == (1, None)  # though `b` is free
        clients[0].release()
        for lease in (await waiting, clients[1]):
            lease.release()
        for replica in p.replicas:
            p.failed(replica)
        assert (p.leased, p.spare("v@1")) == (0, None)

    run(work())
