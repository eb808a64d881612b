"""Mends a missed registration: an engine answers 404 for an adapter that the table says is attested there.

Only what was proved is registered again: the engine must still be the incarnation on which the version was
attested. A restarted one gets its adapters from the controller, which attests them first. Requests go on at
once; the controller is asked to prove the version anew, as after every registration.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from gateway.replicas.replica import Replica
from gateway.telemetry import Telemetry
from gateway.upstream.answers import incarnation_of, refusal_message
from gateway.upstream.client import Client
from gateway.upstream.faults import UpstreamFault

TIMEOUT_S = 10.0
PAUSE_S = 1.0
"""After a failure the next attempt for the same version on the same replica waits so long."""

_MAX_METRICS_BYTES = 16 * 1024 * 1024
_MAX_ANSWER_BYTES = 64 * 1024
_log = logging.getLogger("turnout.registrar")


@dataclass(frozen=True, slots=True)
class Attested:
    """A version as it was attested on a replica: which incarnation, and the path as that engine sees it."""

    incarnation: str
    path: str


class Registrar:
    """Registers versions again. One attempt at a time for each version and replica; others wait for it.

    `attested(replica, label)` says what the present table knows, or None. `on_mended(replica, label)` hears
    of each registration that was made here.
    """

    def __init__(
        self,
        client: Client,
        attested: Callable[[str, str], Attested | None],
        telemetry: Telemetry,
        *,
        timeout_s: float = TIMEOUT_S,
        on_mended: Callable[[str, str], None] = lambda _replica, _label: None,
    ) -> None:
        self._client = client
        self._attested = attested
        self._telemetry = telemetry
        self._timeout_s = timeout_s
        self._on_mended = on_mended
        self._under_way: dict[tuple[str, str], asyncio.Task[bool]] = {}
        self._not_before: dict[tuple[str, str], float] = {}

    @property
    def under_way(self) -> int:
        """How many attempts run."""
        return len(self._under_way)

    async def mend(self, replica: Replica, label: str) -> bool:
        """Register `label` again on `replica`; whether it is registered there now."""
        key = (replica.id, label)
        task = self._under_way.get(key)
        if task is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before.get(key, 0.0):
                return False
            task = loop.create_task(self._try(replica, label))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # A client that goes away must not end the attempt that others wait for.
        return await asyncio.shield(task)

    async def _try(self, replica: Replica, label: str) -> bool:
        key = (replica.id, label)
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = await self._register(replica, label)
        except (TimeoutError, UpstreamFault) as fault:
            _log.warning("replica %s: %s could not be registered again: %s", replica.id, label, fault)
            outcome = "failed"
        self._telemetry.registrations_mended.labels(outcome).inc()
        if outcome == "mended":
            self._not_before.pop(key, None)
            return True
        self._remember_failure(key)
        return False

    async def _register(self, replica: Replica, label: str) -> str:
        known = self._attested(replica.id, label)
        if known is None:
            return "not_attested"
        response = await self._client.get(replica.origin, "/metrics")
        try:
            metrics = await response.read_all(_MAX_METRICS_BYTES)
        finally:
            response.close()
        if incarnation_of(metrics) != known.incarnation:
            return "restarted"
        body = orjson.dumps({"lora_name": label, "lora_path": known.path, "load_inplace": False})
        response = await self._client.post(
            replica.origin, "/v1/load_lora_adapter", body, request_id="registrar"
        )
        try:
            answer = await response.read_all(_MAX_ANSWER_BYTES)
        finally:
            response.close()
        if response.status == 200:
            _log.warning("replica %s had lost %s; it is registered again", replica.id, label)
            self._on_mended(replica.id, label)
            return "mended"
        if "already been loaded" in refusal_message(answer):  # whoever was quicker has it proved
            return "mended"
        _log.error("replica %s does not take %s: %d %r", replica.id, label, response.status, answer[:500])
        return "failed"

    def _remember_failure(self, key: tuple[str, str]) -> None:
        now = asyncio.get_running_loop().time()
        self._not_before = {k: until for k, until in self._not_before.items() if until > now}
        self._not_before[key] = now + PAUSE_S
