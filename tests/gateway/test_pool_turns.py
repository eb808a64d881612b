"""Whose turn it is in the pool's queue, and who has to leave it when it is full."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from gateway.errors import Overloaded
from gateway.replicas.pool import Pool
from gateway.upstream.origin import Origin

WHERE = Origin.parse("http://127.0.0.1:1")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's work on a loop of its own."""
    asyncio.run(work)


class Scene:
    """A pool with one place, which is taken, and those who wait for it."""

    def __init__(self, *, queue: int = 100, weights: Mapping[str, float] | None = None) -> None:
        self.pool = Pool(limit_per_replica=1, max_queue=queue, queue_timeout_s=60.0)
        self.pool.update({"a": WHERE}, {"v@1": ("a",)})
        self.pool.weigh(weights or {})
        self.served: list[str] = []
        self.refused: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, tenants: str) -> None:
        """Let requests of these tenants come, one after the other."""
        for tenant in tenants:
            self.tasks.append(asyncio.create_task(self._one(tenant)))
            await asyncio.sleep(0)

    async def _one(self, tenant: str) -> None:
        try:
            lease = await self.pool.lease("v@1", tenant=tenant)
        except Overloaded:
            self.refused.append(tenant)
            return
        self.served.append(tenant)
        await asyncio.sleep(0)
        lease.release()

    async def over(self) -> str:
        """Wait until all were served or refused; in which order they were served."""
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert (self.pool.leased, self.pool.waiting) == (0, 0)
        return "".join(self.served)


def test_a_burst_does_not_go_before_others() -> None:
    """One who comes after another tenant's burst is served after one more of it, not after all."""

    async def work() -> None:
        scene = Scene()
        held = await scene.pool.lease("v@1", tenant="a")
        await scene.come("aaaaaabb")
        held.release()
        assert await scene.over() == "ababaaaa"

    run(work())


def test_weights_in_the_queue() -> None:
    """A tenant of weight 2 has two turns to each of the other's."""

    async def work() -> None:
        scene = Scene(weights={"b": 2.0})
        held = await scene.pool.lease("v@1", tenant="a")
        await scene.come("aaabbbbbb")
        held.release()
        assert await scene.over() == "abbabbabb"

    run(work())


@pytest.mark.parametrize(
    ("come", "refused"),
    [("aaaab", "a"), ("aabbc", "a"), ("aabba", "a"), ("abcda", "a"), ("aaaa", ""), ("aaaaa", "a")],
)
def test_a_full_queue_takes_from_who_has_most(come: str, refused: str) -> None:
    """In a queue of four the last one goes of the tenant that has the most, or the newcomer."""

    async def work() -> None:
        scene = Scene(queue=4)
        held = await scene.pool.lease("v@1", tenant="x")
        await scene.come(come)
        await asyncio.sleep(0)
        assert scene.refused == list(refused)
        held.release()
        assert len(await scene.over()) == len(come) - len(refused)

    run(work())


def test_who_leaves_keeps_no_turn() -> None:
    """A waiter that gives up is passed over, and what reached it in the same moment goes on."""

    async def work() -> None:
        scene = Scene()
        held = await scene.pool.lease("v@1", tenant="x")
        await scene.come("aab")
        scene.tasks[0].cancel()
        held.release()
        scene.tasks[1].cancel()
        assert await scene.over() == "b"

    run(work())
