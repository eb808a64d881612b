"""Keeps the routing table fresh: polls the store's generation, and swaps in a new table when it moved.

Where the store announces changes (`gateway.store.wakes`), `wake` ends the wait for the next poll.

A worker that stood still (a frozen process, a busy machine) reads the table again before it uses it. One that
can't reach the store goes on with what it knows; when that is old, it refuses what was being changed, and
when it is very old, the keys, any of which may have been revoked meanwhile.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from gateway.core.refs import BASE
from gateway.core.routes import Capture
from gateway.routing.table import RoutingTable, build
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.telemetry import Telemetry

HURRIED_POLL_S = 0.05
LEAST_PAUSE_S = 0.02
OVERDUE_S = 0.75
"""A table that nobody has confirmed for so long, though the store answers: this worker stood still. Changes
take effect within a second of the time that their event names, and are to be seen only a little later."""

PATIENCE_S = 1.0
"""How long requests wait for the table to be read again before they go on with the old one."""

STALE_S = 20.0
"""Below the time for which the controller waits for a silent worker, with room for what either may lag behind
(`gateway.controller.drain`): what was being changed is not unregistered before it is refused here."""

_log = logging.getLogger("turnout.table")


class TableWatcher:
    """The table in use. While the store is down the last table stays in use, and each fault is counted."""

    def __init__(
        self,
        store: ControlStore,
        *,
        base_model: str,
        default_capture: Capture,
        poll_s: float,
        telemetry: Telemetry,
        on_swap: Callable[[RoutingTable], None],
        keys_last_s: float = math.inf,
    ) -> None:
        """`keys_last_s`: how long keys count after the store has last answered."""
        self.store_ok = False
        self._keys_last_s = keys_last_s
        self._store = store
        self._base_model = base_model
        self._default_capture = default_capture
        self._poll_s = poll_s
        self._telemetry = telemetry
        self._on_swap = on_swap
        self._table: RoutingTable | None = None
        self._confirmed_at: float | None = None
        self._taken_at = -math.inf
        self._built_with: Capture | None = None
        self._hurried = 0
        self._woken = asyncio.Event()
        self._overdue_s = max(OVERDUE_S, 3 * poll_s)
        self._catching_up: asyncio.Task[None] | None = None
        telemetry.table_age.set_function(self.age_s)

    @property
    def loaded(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    @property
    def table(self) -> RoutingTable:
        """The table in use. `refresh` has to have succeeded once."""
        assert self._table is not None, "the lifespan loads the first table"  # noqa: S101 - a programmer's error
        return self._table

    @property
    def generation(self) -> int:
        """The generation in use; 0 before the first table."""
        return 0 if self._table is None else self._table.generation

    def age_s(self) -> float:
        """Seconds since the store last said that this table is the newest; -1 before the first."""
        if self._confirmed_at is None:
            return -1.0
        return time.monotonic() - self._confirmed_at

    async def refresh(self) -> bool:
        """Look once; whether a new table is in use.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        asked_at, capture = time.monotonic(), self._default_capture
        table = await asyncio.to_thread(self._read, capture)
        if table is not None and table.generation < self.generation:
            if asked_at <= self._taken_at:
                table = None  # a slower read than the one that brought the present table
            else:
                _log.error(
                    "the store went back from generation %d to %d, as one that was restored, or promoted "
                    "without its last changes, does; what it says now is in use",
                    *(self.generation, table.generation),
                )
        if table is not None:
            # The pool learns of the replicas in the same step of the loop in which requests meet the table.
            self._on_swap(table)
            self._table, self._taken_at, self._built_with = table, time.monotonic(), capture
            self._report(table)
        elif self._table is not None and (self._table.stale or self._table.keys_lapsed):
            self._table = replace(self._table, stale=False, keys_lapsed=False)
        self._confirmed_at = max(asked_at, self._confirmed_at or 0.0)
        self.store_ok = True
        return table is not None

    def wake(self) -> None:
        """Look soon: the store has announced a change."""
        self._woken.set()

    def capture_by(self, default: Capture) -> None:
        """Take another capture policy for routes without one of their own."""
        self._default_capture = default
        self.wake()

    def hurry(self, more: int) -> None:
        """Poll often while somebody waits for a change: +1 when they begin to wait, -1 when they are done."""
        self._hurried += more

    def overdue(self) -> Awaitable[None] | None:
        """Return what to wait for before the table is used; None, at no cost, while it is fresh."""
        if (
            not self.store_ok
            or self._confirmed_at is None
            or time.monotonic() - self._confirmed_at < self._overdue_s
        ):
            return None
        if self._catching_up is None:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())
            self._catching_up.add_done_callback(self._caught_up)
        return asyncio.shield(self._catching_up)

    async def _catch_up(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._look()
        except TimeoutError as error:
            self._lost(error)

    def _caught_up(self, _task: asyncio.Task[None]) -> None:
        self._catching_up = None

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._pause()
            looking = asyncio.ensure_future(self._look())
            try:
                # A read that hangs keeps its thread, so it is waited for; but it counts as no answer.
                while not (await asyncio.wait({looking}, timeout=PATIENCE_S))[0]:
                    self._lost(TimeoutError(f"no answer within {PATIENCE_S:g} s"))
            finally:
                looking.cancel()

    async def _pause(self) -> None:
        """Wait for the next poll, or for an announced change, of which a storm is taken in one look."""
        poll_s = min(self._poll_s, HURRIED_POLL_S) if self._hurried else self._poll_s
        least_s = min(poll_s, LEAST_PAUSE_S)
        await asyncio.sleep(least_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(poll_s - least_s):
                await self._woken.wait()
        self._woken.clear()

    async def _look(self) -> None:
        try:
            await self.refresh()
        except StoreUnavailable as error:
            self._lost(error)
        except Exception:  # noqa: BLE001 - a background loop: counted, logged, and it goes on
            self._telemetry.background_errors.labels("table").inc()
            _log.exception("the routing table could not be built, going on with the last one")

    def _lost(self, error: Exception) -> None:
        if self.store_ok:
            _log.warning("the store does not answer, going on with the last table: %s", error)
        self.store_ok = False
        self._telemetry.store_errors.labels("table").inc()
        table, age_s = self._table, self.age_s()
        if table is None:
            return
        stale, lapsed = age_s > STALE_S, age_s > self._keys_last_s
        if lapsed and not table.keys_lapsed:
            _log.error("the store has not answered for %.0f s: keys do not count any more", age_s)
        if (stale, lapsed) != (table.stale, table.keys_lapsed):
            self._table = replace(table, stale=stale, keys_lapsed=lapsed)

    def _read(self, capture: Capture) -> RoutingTable | None:
        known = self._table
        if known is not None and capture == self._built_with and self._store.generation() == known.generation:
            return None
        return build(self._store.snapshot(), base_model=self._base_model, default_capture=capture)

    def _report(self, table: RoutingTable) -> None:
        self._telemetry.table_generation.set(table.generation)
        healthy = set(table.placement[BASE])
        self._telemetry.proofs(table.proofs)
        self._telemetry.replicas(
            {replica: replica in healthy for replica in table.replica_urls},
            quarantined=[replica for replica, facts in table.engines.items() if facts.quarantined],
        )
