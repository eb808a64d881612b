"""Lease and relay: from a resolved request to the last byte of its answer.

A request that could not be sent goes to another replica. One that was sent goes once more at most, within a
retry budget, and only while the replica that had it is known to be well: when that one refused it (429, 503),
when the connection broke before the client got anything, or when an adapter was not registered there (404),
which is mended first. A request under which a replica died is never sent again, and is refused for a while: a
request that kills an engine must not meet the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.refs import BASE
from gateway.core.requests import RequestRow
from gateway.errors import (
    InvalidRequest,
    Overloaded,
    TurnoutError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.notices import Notices
from gateway.relay import Call, Downstream, Relay
from gateway.replicas.budget import RetryBudget
from gateway.replicas.cold import ColdLoads
from gateway.replicas.health import SILENT_UNTIL_SICK, HealthChecks, Verdict
from gateway.replicas.in_flight import InFlight
from gateway.replicas.pool import NO_REPLICA, Lease, Pool
from gateway.replicas.quarantine import Quarantine
from gateway.replicas.registrar import Registrar
from gateway.replicas.replica import Replica
from gateway.telemetry import Telemetry
from gateway.upstream.answers import explain_refusal, misses_model
from gateway.upstream.client import Client
from gateway.upstream.connection import Response
from gateway.upstream.faults import ConnectFailed, ConnectionLost, TimedOut, UpstreamFault

MAX_REFUSAL_BYTES = 64 * 1024
MAX_ATTEMPTS = 4
RETRY_AFTER_S = 1.0
_log = logging.getLogger("turnout.proxy")


class Cause(StrEnum):
    """Why a replica did not answer a request, as `turnout_retries_total` names it."""

    CONNECT = "connect"  # nothing was sent
    BUSY = "busy"  # 429
    UNAVAILABLE = "unavailable"  # 503
    NOT_REGISTERED = "not_registered"  # the engine's 404 for an adapter
    LOST = "lost"  # the connection broke after the request was sent
    FAILED = "failed"  # any other 5xx, or an answer that is none
    TIMEOUT = "timeout"


@dataclass(slots=True)
class _Setback:
    """A replica did not answer: why, and what the client hears if no other does either.

    `begun`: the client has part of an answer. `kept`: the connection may have been closed before its use.
    """

    cause: Cause
    error: TurnoutError
    begun: bool = False
    kept: bool = False


class Proxy:
    """Sends calls to engines and their answers to clients."""

    def __init__(
        self,
        client: Client,
        pool: Pool,
        in_flight: InFlight,
        telemetry: Telemetry,
        *,
        health: HealthChecks,
        quarantine: Quarantine,
        registrar: Registrar,
        notices: Notices,
        cold: ColdLoads | None = None,
        on_wait: Callable[[str, float], None] = lambda _tenant, _waited_s: None,
    ) -> None:
        """`on_wait` hears of each request that had to wait: whose it was, and for how long."""
        self._client = client
        self._pool = pool
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._health = health
        self._quarantine = quarantine
        self._registrar = registrar
        self._notices = notices
        self._cold = cold
        self._on_wait = on_wait
        self._budget = RetryBudget(lambda: pool.requests)
        self._inquests: set[asyncio.Task[bool]] = set()

    async def serve(self, call: Call, downstream: Downstream) -> None:
        """Answer `call`. The row says at the end what happened; its status is 200 unless this raises.

        Raises:
            TurnoutError: there is no answer. When the stream had begun, its end is the caller's to say.
        """
        if not self._quarantine.empty:
            self._check_quarantine(call)
        label = call.target.label
        self._in_flight.enter(label)
        try:
            await self._try_replicas(call, label, downstream)
        finally:
            self._in_flight.leave(label)

    def _check_quarantine(self, call: Call) -> None:
        try:
            self._quarantine.check(call.path, call.target.requested, call.payload)
        except TurnoutError:
            self._telemetry.quarantined.inc()
            raise

    async def _try_replicas(self, call: Call, label: str, downstream: Downstream) -> None:
        pool, tenant = self._pool, call.row.tenant
        tried: frozenset[str] = frozenset()
        sent_again = False
        while True:
            try:
                lease = pool.take(label, tried=tried, tenant=tenant) or await pool.wait(
                    label, tried=tried, tenant=tenant
                )
            except Unavailable as error:
                lease = await self._loaded(call, label, tried, error)
            try:
                self._note(call.row, lease)
                setback = await self._attempt(call, lease.replica, downstream)
                if (
                    setback is not None
                    and setback.cause is Cause.NOT_REGISTERED
                    and not sent_again
                    and await self._registrar.mend(lease.replica, label)
                    and self._afford(setback.cause)
                ):
                    sent_again = True
                    call.row.attempts += 1
                    setback = await self._attempt(call, lease.replica, downstream)
            finally:
                lease.release()
            if setback is None:
                return
            await self._blame(call, setback, lease.replica)
            sent = setback.cause is not Cause.CONNECT
            if sent and not await self._may_be_sent_again(setback, lease.replica, sent_again=sent_again):
                raise setback.error
            beyond = tried | {lease.replica.id}
            if pool.serves(label, tried=beyond):
                tried = beyond
            elif (
                not setback.kept
            ):  # a connection that was closed while idle is no reason to leave its replica
                raise setback.error
            if call.row.attempts >= MAX_ATTEMPTS or (sent and not self._afford(setback.cause)):
                raise setback.error
            sent_again = sent_again or sent
            if not sent:
                self._telemetry.retries.labels(setback.cause).inc()

    async def _loaded(self, call: Call, label: str, tried: frozenset[str], error: Unavailable) -> Lease:
        """Return a lease of a version that no replica serves, once it has been loaded for this request."""
        if self._cold is None or tried or label == BASE or error.code != NO_REPLICA:
            raise error
        call.row.cold = True
        call.row.queue_ms = await self._cold.bring(label, error) * 1000
        return await self._pool.lease(label, tenant=call.row.tenant)

    def _note(self, row: RequestRow, lease: Lease) -> None:
        row.queue_ms = (row.queue_ms or 0.0) + lease.waited_s * 1000
        row.attempts += 1
        row.replica = lease.replica.id
        self._telemetry.queue_wait.observe(lease.waited_s)
        if lease.waited_s:
            self._on_wait(row.tenant, lease.waited_s)

    # --- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self, call: Call, replica: Replica, downstream: Downstream) -> _Setback | None:
        """Send the call to one replica; None when it was answered, otherwise why it was not.

        Raises:
            TurnoutError: the client hears of it whatever other replicas would say.
        """
        try:
            response = await self._client.post(
                replica.origin, call.path, call.payload, request_id=call.row.id, headers=call.trace
            )
        except UpstreamFault as fault:
            return _setback(fault, replica, call)
        relay: Relay | None = None
        try:
            if response.status != 200:
                return await self._refused(call, replica, response)
            relay = self._relay(call, replica)
            if call.stream:
                await relay.stream(response, downstream)
            else:
                await relay.whole(response, downstream)
        except UpstreamFault as fault:
            return _setback(fault, replica, call, begun=relay is not None and relay.begun)
        finally:
            response.close()
        if replica.troubled:
            self._pool.succeeded(replica)
        return None

    def _relay(self, call: Call, replica: Replica) -> Relay:
        on_answer = (lambda: self._pool.succeeded(replica)) if replica.troubled else None
        return Relay(
            call, replica, self._telemetry, raise_event=self._notices.raise_event, on_answer=on_answer
        )

    async def _refused(self, call: Call, replica: Replica, response: Response) -> _Setback:
        """Read a refusal; return it when another replica may do better, raise it otherwise."""
        body = await response.read_all(MAX_REFUSAL_BYTES)
        status = response.status
        _log.debug("replica %s refused %s with %d", replica.id, call.row.id, status)
        if status in (400, 413, 422):  # the engine's own check of the request: the client can mend it
            message, param = explain_refusal(body)
            raise InvalidRequest(message, param=param)
        if status == 404 and call.target.adapter is not None and misses_model(body, call.target.engine_model):
            error: TurnoutError = Unavailable(
                f"{call.target.engine_model!r} is being registered; try again in a moment",
                code="adapter_not_registered",
                retry_after_s=RETRY_AFTER_S,
            )
            return _Setback(Cause.NOT_REGISTERED, error)
        if status == 429:
            error = Overloaded("the engine is overloaded", code="engine_busy", retry_after_s=RETRY_AFTER_S)
            return _Setback(Cause.BUSY, error)
        if status == 503:
            error = Unavailable(
                "the engine is not ready", code="engine_unavailable", retry_after_s=RETRY_AFTER_S
            )
            return _Setback(Cause.UNAVAILABLE, error)
        # Its body may quote the prompt: what the engine has to say stands in the engine's own log.
        _log.error("replica %s answered %s with %d", replica.id, call.row.id, status)
        error = UpstreamFailed("the engine failed to answer")
        if status < 500:
            raise error
        return _Setback(Cause.FAILED, error)

    # --- after a setback ----------------------------------------------------------------------------------

    async def _blame(self, call: Call, setback: _Setback, replica: Replica) -> None:
        """Tell the circuit breaker, and find out whether the replica died under the request.

        Raises:
            UpstreamFailed: it did.
        """
        cause = setback.cause
        if cause in (Cause.CONNECT, Cause.LOST, Cause.FAILED, Cause.TIMEOUT):
            self._pool.failed(replica, connection=cause in (Cause.CONNECT, Cause.LOST))
        if cause is Cause.CONNECT:
            self._health.look_soon(replica)
        if cause in (Cause.LOST, Cause.FAILED):
            # A client that goes away now must not save its request from being remembered.
            inquest = asyncio.get_running_loop().create_task(self._died(call, replica, cause))
            self._inquests.add(inquest)
            inquest.add_done_callback(self._inquests.discard)
            if await asyncio.shield(inquest):
                raise UpstreamFailed(
                    "the engine died while it worked on this request; it is not tried again",
                    code="replica_died",
                )

    async def _died(self, call: Call, replica: Replica, cause: Cause) -> bool:
        """Whether the replica died under the call. One that broke off and stays silent counts as dead."""
        # One late answer is no death: a busy machine answers late too, and a request that is taken for a
        # killer is refused from now on.
        for _ in range(SILENT_UNTIL_SICK if cause is Cause.LOST else 1):
            verdict = await self._health.look_now(replica)
            if verdict is not Verdict.SILENT:
                break
        if verdict is Verdict.WELL or (verdict is Verdict.SILENT and cause is not Cause.LOST):
            return False
        self._pool.sick(replica)
        self._telemetry.replica_deaths.labels(replica.id).inc()
        _log.error("replica %s died under request %s", replica.id, call.row.id)
        self._quarantine.add(call.path, call.target.requested, call.payload, replica=replica.id)
        return True

    async def _may_be_sent_again(self, setback: _Setback, replica: Replica, *, sent_again: bool) -> bool:
        """Whether a request that was sent may go to a replica once more, its budget aside.

        The replica that refused or lost it is known to be well: it has just said so.
        """
        if sent_again or setback.begun or setback.cause in (Cause.FAILED, Cause.TIMEOUT):
            return False
        return setback.cause is not Cause.UNAVAILABLE or await self._health.well_lately(replica)

    def _afford(self, cause: Cause) -> bool:
        if not self._budget.take():
            self._telemetry.retries_denied.inc()
            return False
        self._telemetry.retries.labels(cause).inc()
        return True


def _setback(fault: UpstreamFault, replica: Replica, call: Call, *, begun: bool = False) -> _Setback:
    """Return what a fault means. The fault itself goes to the log; the client hears nothing of it."""
    _log.warning("replica %s, request %s: %s", replica.id, call.row.id, fault)
    if isinstance(fault, ConnectFailed):
        error: TurnoutError = Unavailable(
            "no engine could be reached", code="replica_unreachable", retry_after_s=RETRY_AFTER_S
        )
        return _Setback(Cause.CONNECT, error)
    if isinstance(fault, TimedOut):
        return _Setback(Cause.TIMEOUT, UpstreamTimeout("the engine did not answer in time"), begun=begun)
    error = UpstreamFailed("the engine broke off before the answer was complete")
    if isinstance(fault, ConnectionLost):
        return _Setback(Cause.LOST, error, begun=begun, kept=fault.kept)
    return _Setback(Cause.FAILED, error, begun=begun)
