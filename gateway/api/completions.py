"""The hot path: how a request to one of the engine's endpoints (`gateway.api.endpoints`) is answered.

authenticate → resolve → lease and relay (`gateway.proxy`) → record, one direction. A client that goes away
cancels its own request, wherever that is waiting; what was taken is given back in `finally`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from gateway.api.answer import Answer
from gateway.api.cors import Cors
from gateway.api.cycle import HotCycle
from gateway.api.formats import FIELDS, expected
from gateway.api.headers import clean_client_id, identity_lines, marked_internal
from gateway.api.limit_headers import NAMES
from gateway.api.request_body import ClientGone, check_media_type, parse_body, repeated_header, to_json
from gateway.api.token_caps import cap_answer
from gateway.auth import require
from gateway.core.requests import Principal, RequestRow, Role, Target
from gateway.core.structured import Expected
from gateway.errors import Internal, TurnoutError, Unavailable
from gateway.limits.limiter import Limiter, Passage
from gateway.proxy import Proxy
from gateway.recording import Recorder
from gateway.relay import Call
from gateway.routing.resolve import fallback_of, resolve, subject_of
from gateway.routing.table import RoutingTable
from gateway.shadows.queue import Shadows
from gateway.telemetry import Telemetry
from gateway.tracing import NoTracing, Tracing

CLIENT_GONE = 499
_MAX_MODEL_CHARS = 256
_log = logging.getLogger("turnout.completions")


@dataclass(frozen=True, slots=True)
class HotPath:
    """What the stages of a request need.

    `salt` gives each tenant a prefix cache of its own; `overdue` says what to wait for before the table is
    used, when this worker stood still. `rank` is the engine's `priority` of a tenant, where engines take one.
    """

    new_id: Callable[[], str]
    authenticate: Callable[[str | None], Principal]
    salt: Callable[[str], str]
    table: Callable[[], RoutingTable]
    overdue: Callable[[], Awaitable[None] | None]
    proxy: Proxy
    recorder: Recorder
    shadows: Shadows
    limiter: Limiter
    telemetry: Telemetry
    tracing: Tracing | NoTracing
    body_timeout_s: float
    cors: Cors | None = None
    rank: Callable[[str], int] | None = None

    def serve(self, client: HotCycle) -> Coroutine[Any, Any, None]:
        """Serve one request, and leave its row and its metrics behind."""
        return _Exchange(client, self).serve()


class _Exchange:
    """One request from its headers to its row."""

    _expected: Expected | None = None
    _passage: Passage | None = None
    _call: Call | None = None

    def __init__(self, client: HotCycle, deps: HotPath) -> None:
        endpoint, headers = client.endpoint, client.headers
        self._client = client
        self._endpoint = endpoint
        self._deps = deps
        self._row = RequestRow(
            deps.new_id(),
            time.time(),
            endpoint.name,
            client_request_id=clean_client_id(headers.get(b"x-request-id")),
        )
        self._answer = Answer(client, endpoint.dialect)
        self._trace = deps.tracing.begin(endpoint.name, headers)
        self._principal: Principal | None = None
        self._target: Target | None = None
        self._redact = True
        self._shadowed: Call | None = None

    async def serve(self) -> None:
        """Answer, one way or another, and leave row and metrics behind."""
        row = self._row
        try:
            await self._answer_call()
            row.status = 200
        except TurnoutError as error:
            self._refuse(error)
        except ClientGone:
            self._lost()
        except asyncio.CancelledError:
            if self._client.disconnected:
                self._lost()
            else:
                row.status, row.error_code = Unavailable.status, "shutdown"
        except Exception:  # noqa: BLE001 - the outermost handler of the hot path: counted and logged
            self._deps.telemetry.background_errors.labels("request").inc()
            _log.exception("request %s failed", row.id)
            self._refuse(Internal("an internal error occurred; the gateway's log has its cause"))
        finally:
            self._conclude()

    async def _answer_call(self) -> None:
        """The stages, in order."""
        deps, endpoint, headers = self._deps, self._endpoint, self._client.headers
        if self._client.repeated is not None:
            raise repeated_header(self._client.repeated)
        credential = endpoint.dialect.credential(headers)
        principal = self._principal = deps.authenticate(credential)
        self._row.key_id, self._row.tenant = principal.key_id, principal.tenant
        if not principal.infers:
            require(principal, Role.INFERENCE)
        if (mark := headers.get(b"x-turnout-internal")) is not None:
            self._row.internal = marked_internal(mark, principal)
        check_media_type(headers.get(b"content-type"), headers.get(b"content-encoding"))
        if (raw := self._client.body_at_hand()) is None:
            raw = await self._client.body(deps.body_timeout_s)
        if deps.limiter.book is not None and (passage := deps.limiter.begin(principal)) is not None:
            self._passage = passage
            passage.check_body(len(raw))
        body = parse_body(raw)
        stream = self._row.streamed = endpoint.check(body)
        if (reading := deps.overdue()) is not None:
            await reading
            principal = deps.authenticate(credential)  # a key may have ended while this worker stood still
        target = self._resolve(body, principal)
        if self._passage is not None:
            await self._pass(self._passage, body, len(raw))
        call = self._prepare(body, target, stream=stream)
        self._identify(target)
        try:
            await deps.proxy.serve(call, self._answer)
        except Unavailable:
            if not await self._fell_back(call, body):
                raise

    async def _pass(self, passage: Passage, body: dict[str, Any], size_bytes: int) -> None:
        """Let the request pass its limits, or refuse it."""
        endpoint = self._endpoint
        passage.enter_route(self._row.route)
        passage.check_body(size_bytes)
        if endpoint.lengths and (found := passage.least("max_tokens")) is not None:
            most, whose = found
            cap_answer(body, endpoint.lengths, most, whose=whose, by_default=endpoint.length_by_default)
        await passage.admit(size_bytes, generates=endpoint.prompt is not None)

    async def _fell_back(self, call: Call, body: dict[str, Any]) -> bool:
        """Answer with the route's fallback, since no replica serves the version that was assigned."""
        target = None if self._client.streaming else fallback_of(self._deps.table(), call.target)
        if target is None:
            return False
        self._shadowed = None
        self._row.adapter = target.label
        telemetry = self._deps.telemetry
        telemetry.fallbacks.labels(telemetry.adapter_label(call.target.label)).inc()
        self._identify(target)
        self._answer.lines += b"x-turnout-fallback: true\r\n"
        payload = to_json({**body, "model": target.engine_model})
        self._call = call = replace(call, payload=payload, target=target)
        await self._deps.proxy.serve(call, self._answer)
        return True

    def _identify(self, target: Target | None) -> None:
        """Make the headers that say which request this is and who answers it."""
        row = self._row
        self._answer.lines = identity_lines(
            row.id, row.client_request_id, target
        ) + self._endpoint.dialect.lines(row.id)
        if self._passage is not None:
            for name in NAMES:
                if (standing := self._passage.standing(name)) is not None:
                    self._answer.lines += self._endpoint.dialect.limit_lines(name, standing)
        if self._deps.cors:
            self._answer.lines += self._deps.cors.lines(self._client.headers.get(b"origin"))

    def _resolve(self, body: dict[str, Any], principal: Principal) -> Target:
        row = self._row
        requested = body.get("model")
        if isinstance(requested, str):
            row.requested_model = requested[:_MAX_MODEL_CHARS].replace("\0", "")
        header = self._client.headers.get(b"x-turnout-subject")
        subject = subject_of(None if header is None else header.decode("latin-1"), body)
        table = self._deps.table()
        try:
            target = resolve(table, requested, principal=principal, request_id=row.id, subject=subject)
        except Unavailable:
            if requested in table.routes:
                row.route = row.requested_model
            raise
        row.route, row.arm, row.unit, row.generation = (
            target.route,
            target.arm,
            target.unit,
            target.generation,
        )
        row.arm_probability = target.probability if target.route else None
        row.adapter = target.label
        self._target = target
        return target

    def _prepare(self, body: dict[str, Any], target: Target, *, stream: bool) -> Call:
        endpoint, row = self._endpoint, self._row
        hide_usage = endpoint.complete(
            body, engine_model=target.engine_model, salt=self._deps.salt(row.tenant), request_id=row.id
        )
        if self._deps.rank is not None and endpoint.ranked:
            body["priority"] = self._deps.rank(row.tenant)
        payload = to_json(body)
        if not FIELDS.isdisjoint(body):
            self._expected = expected(body)
        text_limit = 0
        if (target.capture or target.shadow is not None) and endpoint.prompt is not None:
            text_limit = self._deps.recorder.text_limit
            if text_limit:
                row.prompt = endpoint.prompt(body, text_limit)
        self._redact = target.redact
        call = self._call = Call(
            path=endpoint.path,
            payload=payload,
            target=target,
            stream=stream,
            hide_usage=hide_usage,
            text_limit=text_limit,
            row=row,
            received=self._client.began,
            shape=endpoint.shape,
            trace=self._trace.headers,
            expected=self._expected,
        )
        if target.shadow is not None and endpoint.prompt is not None:
            self._shadowed = call
        return call

    def _refuse(self, error: TurnoutError) -> None:
        """Send the error."""
        self._row.status, self._row.error_code = error.status, error.code or error.type
        if not self._answer.lines:
            self._identify(self._target)
        self._answer.error(error)

    def _lost(self) -> None:
        self._row.status, self._row.error_code = CLIENT_GONE, "client_gone"

    def _conclude(self) -> None:
        """Leave the row and the metrics. Without a valid key there is a metric and no row: nobody asked."""
        row = self._row
        row.latency_ms = (time.perf_counter() - self._client.began) * 1000
        self._deps.telemetry.finished(row)
        self._trace.finish(row)
        if self._passage is not None:
            self._passage.settle(row, 0 if self._call is None else self._call.events)
        if self._shadowed is not None:
            self._deps.shadows.offer(self._shadowed)
        if self._principal is not None:
            self._deps.recorder.put(row, redacted=self._redact, expected=self._expected)
