"""One replay: sent once to a place that is free anyway, and kept beside the answer that the client got.

What becomes of it reaches no circuit breaker and no retry budget. A shadow under which a replica dies rests.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.core.refs import BASE
from gateway.core.requests import RequestRow
from gateway.errors import TurnoutError
from gateway.recording import Recorder, clean_text
from gateway.relay import MAX_ANSWER_BYTES
from gateway.replicas.health import HealthChecks, Verdict
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import Lease, Pool
from gateway.replicas.quarantine import Quarantine
from gateway.replicas.replica import Replica
from gateway.routing.table import RoutingTable
from gateway.shadows.sample import Sample, replayed, row_of
from gateway.store.database import StoreUnavailable
from gateway.store.shadows import Pair, ShadowPairs
from gateway.store.tombstones import Guard
from gateway.telemetry import Telemetry
from gateway.upstream.client import Client
from gateway.upstream.faults import ConnectFailed, ConnectionLost, TimedOut, UpstreamFault
from gateway.upstream.reading import Reading, WrongModel, read_whole

MAX_REFUSAL_BYTES = 64 * 1024
REST_S = 300.0
"""How long a version stays without replays after a replica has died under one."""

_STATUS = {ConnectFailed: (503, "replica_unreachable"), TimedOut: (504, "upstream_timeout")}
_log = logging.getLogger("turnout.shadows")


class Replays:
    """Sends replays. Belongs to one event loop."""

    def __init__(
        self,
        client: Client,
        pool: Pool,
        in_flight: InFlight,
        telemetry: Telemetry,
        *,
        health: HealthChecks,
        quarantine: Quarantine,
        recorder: Recorder,
        pairs: ShadowPairs,
        table: Callable[[], RoutingTable],
        new_id: Callable[[], str],
        forgotten: Guard | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forgotten = forgotten
        self._client = client
        self._pool = pool
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._health = health
        self._quarantine = quarantine
        self._recorder = recorder
        self._pairs = pairs
        self._table = table
        self._new_id = new_id
        self._clock = clock
        self._resting_until: dict[str, float] = {}

    def resting(self, shadow: str) -> bool:
        """Whether a version gets no replays now, because a replica died under one."""
        return bool(self._resting_until) and self._resting_until.get(shadow, 0.0) > self._clock()

    async def run(self, sample: Sample) -> str:
        """Replay one sample if that is still wanted and possible; return what came of it."""
        if self.resting(sample.shadow):
            return "resting"
        table = self._table()
        if not _wanted(table, sample):
            return "ended"
        row = row_of(sample, self._new_id(), table.generation)
        model = table.base_model if sample.shadow == BASE else sample.shadow
        payload = replayed(sample.payload, engine_model=model, request_id=row.id)
        if self._refused(sample, payload):
            return "quarantined"
        # Counted even when there is no place: that it is asked for is what brings the version one.
        self._in_flight.enter(sample.shadow)
        try:
            lease = self._pool.spare(sample.shadow)
            if lease is None:
                return "no_place"
            reading = Reading(model, text_limit=self._recorder.text_limit, shape=sample.shape)
            try:
                await self._send(sample, payload, lease, row, reading)
            finally:
                lease.release()
        finally:
            self._in_flight.leave(sample.shadow)
        return await self._keep(sample, row, reading)

    def _refused(self, sample: Sample, payload: bytes) -> bool:
        if self._quarantine.empty:
            return False
        try:
            self._quarantine.check(sample.path, sample.shadow, payload)
        except TurnoutError:
            return True
        return False

    async def _send(
        self, sample: Sample, payload: bytes, lease: Lease, row: RequestRow, reading: Reading
    ) -> None:
        """Send the replay, once. The row says what came of it."""
        replica = lease.replica
        row.replica, row.attempts = replica.id, 1
        began = self._clock()
        fault: Exception | None = None
        try:
            row.status, row.error_code = await self._ask(sample, payload, replica, row.id, reading)
        except WrongModel as wrong:
            row.status, row.error_code = 502, "wrong_model"
            self._telemetry.wrong_model.labels(self._telemetry.adapter_label(sample.shadow)).inc()
            _log.error("replica %s, replay of %s: %s", replica.id, sample.row.id, wrong)
        except (UpstreamFault, ValueError) as error:
            fault = error
            row.status, row.error_code = _STATUS.get(type(error), (502, "upstream_failed"))
        row.latency_ms = (self._clock() - began) * 1000
        row.answer_id, row.finish_reason = reading.answer_id, reading.finish_reason
        row.prompt_tokens, row.completion_tokens = reading.prompt_tokens, reading.completion_tokens
        if row.status >= 500 and not isinstance(fault, ConnectFailed):
            await self._inquire(sample, payload, lease, lost=isinstance(fault, ConnectionLost))

    async def _ask(
        self, sample: Sample, payload: bytes, replica: Replica, request_id: str, reading: Reading
    ) -> tuple[int, str | None]:
        """Return the status of the engine's answer, and an error's code.

        Raises:
            UpstreamFault: there is no answer.
            WrongModel: another version gave it.
            ValueError: it is none.
        """
        response = await self._client.post(replica.origin, sample.path, payload, request_id=request_id)
        try:
            if response.status != 200:
                await response.read_all(MAX_REFUSAL_BYTES)
                return response.status, "refused"
            read_whole(await response.read_all(MAX_ANSWER_BYTES), reading)
        finally:
            response.close()
        return 200, None

    async def _inquire(self, sample: Sample, payload: bytes, lease: Lease, *, lost: bool) -> None:
        """Find out whether the replica died under the replay; then nobody sends it again, and it rests."""
        verdict = await self._health.look_now(lease.replica)
        if verdict is Verdict.WELL or (verdict is Verdict.SILENT and not lost):
            return
        self._pool.sick(lease.replica)
        self._resting_until[sample.shadow] = self._clock() + REST_S
        self._telemetry.replica_deaths.labels(lease.replica.id).inc()
        self._quarantine.add(sample.path, sample.shadow, payload, replica=lease.replica.id)
        _log.error(
            "replica %s died under a replay of %s to %s, which rests for %.0f s",
            lease.replica.id,
            sample.row.id,
            sample.shadow,
            REST_S,
        )

    async def _keep(self, sample: Sample, row: RequestRow, reading: Reading) -> str:
        """Record the replay and store both answers."""
        self._recorder.put(row)
        answer = reading.text if row.status == 200 and reading.text_limit else None
        try:
            await asyncio.to_thread(self._store, sample, row, answer)
        except StoreUnavailable as error:
            self._telemetry.store_errors.labels("shadow").inc()
            _log.warning("the answers to %s were not stored: %s", sample.row.id, error)
            return "not_stored"
        return "answered" if row.status == 200 else "failed"

    def _store(self, sample: Sample, row: RequestRow, answer: str | None) -> None:
        def clean(text: str | None) -> str | None:
            return clean_text(text, redacted=sample.redacted, max_chars=self._recorder.max_text_chars)

        first = sample.row
        if self._forgotten is not None and self._forgotten.holds(first):
            return
        self._pairs.add(
            Pair(
                id=first.id,
                shadow_id=row.id,
                at=first.at,
                endpoint=first.endpoint,
                route=first.route or "",
                adapter=first.adapter,
                shadow=sample.shadow,
                prompt=clean(sample.prompt),
                answer=clean(sample.answer),
                shadow_answer=clean(answer),
                shadow_status=row.status,
                shadow_error=row.error_code,
                finish_reason=first.finish_reason,
                shadow_finish_reason=row.finish_reason,
                completion_tokens=first.completion_tokens,
                shadow_completion_tokens=row.completion_tokens,
                latency_ms=first.latency_ms,
                shadow_latency_ms=row.latency_ms,
            )
        )


def _wanted(table: RoutingTable, sample: Sample) -> bool:
    """Whether the route still has this shadow, and the table is fresh enough to serve it."""
    entry = table.routes.get(sample.row.route or "")
    if entry is None or entry.shadow is None or entry.shadow.adapter != sample.shadow:
        return False
    return not (table.stale and sample.shadow in table.changing)
