"""Health checks: asks every engine's `/health` over and over, and at once when a request has failed there.

Each check is a connection of its own: that an engine still takes connections is half of the question.
"""

import asyncio
import logging
from enum import Enum

from gateway.replicas.pool import Pool
from gateway.replicas.replica import Replica
from gateway.telemetry import Telemetry
from gateway.upstream.client import Client
from gateway.upstream.faults import TimedOut, UpstreamFault

INTERVAL_S = 1.0
TIMEOUT_S = 1.0
SILENT_UNTIL_SICK = 3
"""A busy engine may answer late. After so many checks in a row without an answer it counts as sick."""

_log = logging.getLogger("turnout.health")


class Verdict(Enum):
    """What one check found."""

    WELL = "well"
    SICK = "sick"  # no connection, a broken one, or the engine says so itself
    SILENT = "silent"  # no answer in time


class HealthChecks:
    """Checks the pool's replicas and tells the pool. Belongs to one event loop."""

    def __init__(
        self,
        client: Client,
        pool: Pool,
        telemetry: Telemetry,
        *,
        interval_s: float = INTERVAL_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._client = client
        self._pool = pool
        self._telemetry = telemetry
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._under_way: dict[Replica, asyncio.Task[Verdict]] = {}
        self._ill: dict[str, str] = {}  # what was last logged of a replica; checks repeat, the log does not

    @property
    def under_way(self) -> int:
        """How many checks run."""
        return len(self._under_way)

    async def run(self) -> None:
        """Check every replica, over and over, until cancelled."""
        try:
            while True:
                for replica in self._pool.replicas:
                    self.look_soon(replica)
                await asyncio.sleep(self._interval_s)
        finally:
            for task in self._under_way.values():
                task.cancel()

    def look_soon(self, replica: Replica) -> asyncio.Task[Verdict]:
        """Start a check unless one is under way; return the task."""
        task = self._under_way.get(replica)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._check(replica))
            self._under_way[replica] = task
            task.add_done_callback(lambda _: self._under_way.pop(replica, None))
        return task

    async def look_now(self, replica: Replica) -> Verdict:
        """Return what a check finds that begins now: one under way may have begun too early to tell."""
        return self._heed(replica, await self._ask(replica))

    async def well_lately(self, replica: Replica) -> bool:
        """Whether the check that is under way passes; one is started when there is none."""
        return await asyncio.shield(self.look_soon(replica)) is Verdict.WELL

    async def _check(self, replica: Replica) -> Verdict:
        return self._heed(replica, await self._ask(replica))

    def _heed(self, replica: Replica, verdict: Verdict) -> Verdict:
        if verdict is Verdict.WELL:
            replica.silent = 0
            if self._ill.pop(replica.id, None):
                _log.info("replica %s is well again", replica.id)
            self._pool.well(replica)
            return verdict
        self._telemetry.health_failures.labels(replica.id).inc()
        replica.silent += 1
        if verdict is Verdict.SICK or replica.silent >= SILENT_UNTIL_SICK:
            self._pool.sick(replica)
            if verdict is Verdict.SILENT:
                self._say(replica, f"/health is not answered within {self._timeout_s:g} s")
        return verdict

    def _say(self, replica: Replica, why: str) -> None:
        """Log what is wrong with a replica when that is news."""
        if self._ill.get(replica.id) != why:
            self._ill[replica.id] = why
            _log.warning("replica %s: %s", replica.id, why)

    async def _ask(self, replica: Replica) -> Verdict:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.get(replica.origin, "/health")
        except (TimeoutError, TimedOut):
            return Verdict.SILENT
        except UpstreamFault as fault:
            self._say(replica, str(fault))
            return Verdict.SICK
        response.close()
        if response.status < 500:
            return Verdict.WELL
        self._say(replica, f"/health answers {response.status}")
        return Verdict.SICK
