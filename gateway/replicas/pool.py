"""Leases: a place on a replica that serves a version, waited for in a bounded queue.

Invariant: nobody waits while a replica of theirs has a free place. A place that is given back goes to the
waiter whose turn it is among those who can use it (`fair.py`: tenants take turns by their weights), in the
same step; so a newcomer who finds a free place overtakes nobody.
A replica whose circuit is open is no candidate, and nobody waits for one, unless a version has no other and
it will do as a last resort (`breaker.py`). A version's homes go before the other replicas that serve it,
where its prefixes are not cached: those take over while the homes are full or fail.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.errors import Overloaded, Unavailable, UpstreamTimeout
from gateway.replicas.fair import FairQueue, Place
from gateway.replicas.policies import Policy, least_loaded
from gateway.replicas.replica import Replica
from gateway.upstream.origin import Origin

RETRY_AFTER_S = 1.0
NO_REPLICA = "no_replica"
_NOBODY: frozenset[str] = frozenset()


class Lease:
    """A place on `replica`. Whoever has it calls `release`, in `finally`; a second call does nothing."""

    __slots__ = ("_pool", "replica", "waited_s")

    def __init__(self, pool: "Pool", replica: Replica, waited_s: float) -> None:
        self._pool: Pool | None = pool
        self.replica = replica
        self.waited_s = waited_s

    def release(self) -> None:
        """Give the place back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give_back(self.replica)


@dataclass(slots=True, eq=False)
class _Waiter:
    label: str
    tried: frozenset[str]
    place: asyncio.Future[Replica]


class Pool:
    """The replicas, their free places, and those who wait. Belongs to one event loop."""

    def __init__(
        self,
        *,
        limit_per_replica: int,
        max_queue: int,
        queue_timeout_s: float,
        on_circuit: Callable[[Replica], None] = lambda _: None,
        pick: Policy = least_loaded,
    ) -> None:
        """`limit_per_replica` and `max_queue` are this worker's own share.

        `on_circuit` hears of a replica whose circuit has changed its state; `pick` chooses among candidates.
        """
        self._policy = pick
        self._limit = limit_per_replica
        self._on_circuit = on_circuit
        self._some_open = False
        self._max_queue = max_queue
        self._queue_timeout_s = queue_timeout_s
        self._replicas: dict[str, Replica] = {}
        self._candidates: dict[str, tuple[Replica, ...]] = {}
        self._standbys: dict[str, tuple[Replica, ...]] = {}
        self._waiters: FairQueue[_Waiter] = FairQueue()
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiters)

    @property
    def leased(self) -> int:
        """How many places are taken, on replicas that are still known."""
        return sum(replica.in_flight for replica in self._replicas.values())

    @property
    def requests(self) -> int:
        """How many requests have asked for a first lease so far."""
        return self._turn

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Every replica of the present table."""
        return tuple(self._replicas.values())

    def resize(self, *, limit_per_replica: int, max_queue: int) -> None:
        """Take another share of the replicas. Requests that are under way or wait keep their places."""
        self._limit, self._max_queue = limit_per_replica, max_queue
        for replica in self._replicas.values():
            replica.set_limit(limit_per_replica)
        self._dispatch()

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Take the tenants' weights, as far as they are not 1; those who wait keep their turns."""
        self._waiters.weights = weights

    def update(
        self,
        origins: Mapping[str, Origin],
        placement: Mapping[str, tuple[str, ...]],
        homes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        """Take a new table's replicas, placement and homes; counts of replicas that stay are kept.

        A version without homes has no preference among its replicas.
        """
        self._replicas = {
            replica_id: known
            if (known := self._replicas.get(replica_id)) is not None and known.origin == origin
            else Replica(replica_id, origin, self._limit)
            for replica_id, origin in origins.items()
        }
        self._candidates = {
            label: tuple(self._replicas[i] for i in ids if i in self._replicas)
            for label, ids in ({**placement, **homes}).items()
        }
        self._standbys = {
            label: tuple(self._replicas[i] for i in placement[label] if i in self._replicas and i not in ids)
            for label, ids in homes.items()
        }
        self._look_at_circuits()

    async def lease(self, label: str, *, tried: frozenset[str] = _NOBODY, tenant: str = "") -> Lease:
        """Return a place on a replica that serves the version `label` and is not in `tried`.

        Raises:
            Unavailable: no healthy replica serves it, or the circuits of those that do are open.
            Overloaded: all are full, and so is the queue.
            UpstreamTimeout: no place came free in time.
        """
        lease = self.take(label, tried=tried, tenant=tenant)
        return lease or await self.wait(label, tried=tried, tenant=tenant)

    def take(self, label: str, *, tried: frozenset[str] = _NOBODY, tenant: str = "") -> Lease | None:
        """Return a place as `lease` does if one is free; None when the caller has to `wait` for it.

        Raises:
            Unavailable: no healthy replica serves it, or the circuits of those that do are open.
            Overloaded: all are full, and so is the queue, of which the tenant has its share.
        """
        candidates = self._find(label, tried)
        if not candidates:
            raise self._nobody_serves(label)
        if not tried:  # second attempts would keep first ones on the same replica, turn by turn
            self._turn += 1
        replica = self._pick(candidates, label, tried)
        if replica is not None:
            replica.in_flight += 1
            return Lease(self, replica, 0.0)
        if len(self._waiters) >= self._max_queue:
            self._make_room(tenant)
        return None

    def spare(self, label: str) -> Lease | None:
        """Return a place that no client will miss, or None: nobody waits, and half of its replica is free.

        Such a lease is no turn, and does not make the retry budget grow.
        """
        candidates = _usable(self._find(label, _NOBODY), _NOBODY)
        if self._waiters or not candidates:
            return None
        replica = min(candidates, key=lambda candidate: candidate.in_flight)
        if replica.troubled or 2 * (replica.in_flight + 1) > replica.ceiling:
            return None
        replica.in_flight += 1
        return Lease(self, replica, 0.0)

    def serves(self, label: str, *, tried: frozenset[str] = _NOBODY) -> bool:
        """Whether a healthy replica outside `tried` serves the version, busy or not."""
        return bool(self._find(label, tried))

    def give_back(self, replica: Replica) -> None:
        """Free a place; the first waiter who can use it gets it at once."""
        replica.in_flight -= 1
        self._dispatch(once=True)

    # --- how the replicas do: hear it from whoever sees it ----------------------------------------------

    def failed(self, replica: Replica, *, connection: bool = False) -> None:
        """A request failed through the replica's fault, or only through its `connection`'s."""
        now = asyncio.get_running_loop().time()
        self._changed(replica, changed=replica.breaker.failed(now, connection=connection))

    def succeeded(self, replica: Replica) -> None:
        """A request was answered. Only worth a call when the replica is `troubled`."""
        self._changed(replica, changed=replica.breaker.succeeded())

    def sick(self, replica: Replica) -> None:
        """A health check failed."""
        self._changed(replica, changed=replica.breaker.sick(asyncio.get_running_loop().time()))
        self._dispatch()  # who waits for it as the last resort waits for nothing now

    def well(self, replica: Replica) -> None:
        """A health check passed."""
        self._changed(replica, changed=replica.breaker.well(asyncio.get_running_loop().time()))

    def _changed(self, replica: Replica, *, changed: bool) -> None:
        if changed:
            replica.follow_circuit()
            self._on_circuit(replica)
            self._look_at_circuits()

    def _look_at_circuits(self) -> None:
        self._some_open = any(replica.open for replica in self._replicas.values())
        self._dispatch()

    # --- waiting ------------------------------------------------------------------------------------------

    def _make_room(self, tenant: str) -> None:
        """Send one away of a tenant that has more than its share of the full queue, or the newcomer."""
        surplus = self._waiters.surplus(tenant)
        full = Overloaded(
            "every replica is busy and the queue is full; try again in a moment",
            code="queue_full",
            retry_after_s=RETRY_AFTER_S,
        )
        if surplus is None:
            raise full
        self._waiters.leave(surplus)
        if not surplus.item.place.done():
            surplus.item.place.set_exception(full)

    async def wait(self, label: str, *, tried: frozenset[str] = _NOBODY, tenant: str = "") -> Lease:
        """Wait for the place that `take` has just not had, and return it.

        Raises:
            Unavailable: meanwhile no healthy replica serves the version any more.
            UpstreamTimeout: no place came free in time.
            Overloaded: the queue is full, and others had less than their share of it.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiter = _Waiter(label, tried, loop.create_future())
        queued = self._waiters.push(waiter, tenant)
        timer = loop.call_later(self._queue_timeout_s, self._expire, waiter)
        try:
            replica = await waiter.place
        except BaseException:
            self._forget(queued)
            raise
        finally:
            timer.cancel()
        return Lease(self, replica, loop.time() - began)

    def _expire(self, waiter: _Waiter) -> None:
        if not waiter.place.done():
            message = f"every replica was busy for {self._queue_timeout_s:g} s"
            waiter.place.set_exception(UpstreamTimeout(message, code="queue_timeout"))

    def _forget(self, queued: Place[_Waiter]) -> None:
        """Take a waiter out who left early; a place that reached them meanwhile goes on to the next."""
        place = queued.item.place
        if place.done() and not place.cancelled() and place.exception() is None:
            self.give_back(place.result())
        else:
            self._waiters.leave(queued)

    def _dispatch(self, *, once: bool = False) -> None:
        """Hand free places to waiters, in the order of their turns among those who can use them.

        `once`: there is one place at most, so nobody has to be looked at after who gets it.
        """
        if not self._waiters:
            return
        for queued in self._waiters:
            waiter = queued.item
            if waiter.place.done():  # cancelled; its owner is about to take it out
                self._waiters.leave(queued)
                continue
            candidates = self._find(waiter.label, waiter.tried)
            if not candidates:
                self._waiters.leave(queued)
                waiter.place.set_exception(self._nobody_serves(waiter.label))
                continue
            replica = self._pick(candidates, waiter.label, waiter.tried)
            if replica is not None:
                self._waiters.serve(queued)
                replica.in_flight += 1
                waiter.place.set_result(replica)
                if once:
                    return

    def _find(self, label: str, tried: frozenset[str]) -> tuple[Replica, ...]:
        candidates = self._candidates.get(label, ())
        if not tried and not self._some_open:
            return candidates
        standbys = self._standbys.get(label, ())
        return (
            _usable(candidates, tried)
            or _usable(standbys, tried)
            or _last_resort((*candidates, *standbys), tried)
        )

    def _pick(self, candidates: tuple[Replica, ...], label: str, tried: frozenset[str]) -> Replica | None:
        replica = self._policy(candidates, turn=self._turn)
        if replica is None and (standbys := self._standbys.get(label)):
            replica = self._policy(_usable(standbys, tried), turn=self._turn)
        return replica

    def _nobody_serves(self, label: str) -> Unavailable:
        if any(r.open for r in (*self._candidates.get(label, ()), *self._standbys.get(label, ()))):
            return Unavailable(
                f"every replica that serves {label!r} has failed just now",
                code="circuit_open",
                retry_after_s=RETRY_AFTER_S,
            )
        return Unavailable(
            f"no healthy replica serves {label!r} now", code=NO_REPLICA, retry_after_s=RETRY_AFTER_S
        )


def _usable(replicas: tuple[Replica, ...], tried: frozenset[str]) -> tuple[Replica, ...]:
    return tuple(replica for replica in replicas if replica.id not in tried and not replica.open)


def _last_resort(replicas: tuple[Replica, ...], tried: frozenset[str]) -> tuple[Replica, ...]:
    return tuple(replica for replica in replicas if replica.id not in tried and replica.breaker.last_resort)
