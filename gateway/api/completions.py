"""The hot path: the engine's endpoints (`gateway.api.endpoints`) as raw ASGI applications.

authenticate → resolve → lease and relay (`gateway.proxy`) → record, one direction. A client that goes away
cancels its own request, wherever that is waiting; what was taken is given back in `finally`.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.api.answer import Answer, Send
from gateway.api.endpoints import Endpoint
from gateway.api.headers import RawHeaders, clean_client_id, identity_headers
from gateway.api.request_body import ClientGone, check_media_type, parse_body, read_body, to_json
from gateway.auth import require
from gateway.core.refs import BASE
from gateway.core.requests import Principal, RequestRow, Role, Target
from gateway.errors import Internal, TurnoutError, Unavailable
from gateway.proxy import Proxy
from gateway.recording import Recorder
from gateway.relay import Call
from gateway.routing.resolve import resolve, subject_of
from gateway.routing.table import RoutingTable
from gateway.telemetry import Telemetry
from gateway.tracing import NoTracing, Tracing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLIENT_GONE = 499
_MAX_MODEL_CHARS = 256
_log = logging.getLogger("turnout.completions")


@dataclass(frozen=True, slots=True)
class HotPath:
    """What the stages of a request need.

    `salt` gives each tenant a prefix cache of its own; `overdue` says what to wait for before the table is
    used, when this worker stood still.
    """

    new_id: Callable[[], str]
    authenticate: Callable[[str | None], Principal]
    salt: Callable[[str], str]
    table: Callable[[], RoutingTable]
    overdue: Callable[[], Awaitable[None] | None]
    proxy: Proxy
    recorder: Recorder
    telemetry: Telemetry
    tracing: Tracing | NoTracing
    max_body_bytes: int
    body_timeout_s: float


class GenerationEndpoint:
    """One path of the engine's API, for every client."""

    def __init__(self, endpoint: Endpoint, deps: HotPath) -> None:
        self._endpoint = endpoint
        self._deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and leave its row and its metrics behind."""
        exchange = _Exchange(self._endpoint, self._deps, scope=scope, receive=receive, send=send)
        try:
            await exchange.serve()
        finally:
            exchange.conclude()


class _Exchange:
    """One request from its headers to its row."""

    def __init__(
        self, endpoint: Endpoint, deps: HotPath, *, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._began = time.perf_counter()
        self._endpoint = endpoint
        self._deps = deps
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._row = RequestRow(
            deps.new_id(),
            time.time(),
            endpoint.name,
            client_request_id=clean_client_id(self._headers.get(b"x-request-id")),
        )
        self._answer = Answer(send, endpoint.dialect, self._identity(None))
        self._trace = deps.tracing.begin(endpoint.name, self._headers)
        self._principal: Principal | None = None
        self._body_read = False
        self._redact = True
        self._gone = False

    async def serve(self) -> None:
        """Answer, one way or another. Only the cancellation of the whole server comes out of here."""
        row = self._row
        try:
            await self._answer_call()
            row.status = 200
        except TurnoutError as error:
            await self._refuse(error)
        except ClientGone:
            self._lost()
        except asyncio.CancelledError:
            if not self._gone:
                row.status, row.error_code = Unavailable.status, "shutdown"
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            self._lost()
        except Exception:  # noqa: BLE001 - the outermost handler of the hot path: counted and logged
            self._deps.telemetry.background_errors.labels("request").inc()
            _log.exception("request %s failed", row.id)
            await self._refuse(Internal("an internal error occurred; the gateway's log has its cause"))

    async def _answer_call(self) -> None:
        """The stages, in order."""
        principal = self._principal = self._authenticate()
        self._row.key_id, self._row.tenant = principal.key_id, principal.tenant
        require(principal, Role.INFERENCE)
        body = parse_body(await self._read_body())
        stream = self._row.streamed = self._endpoint.check(body)
        if (reading := self._deps.overdue()) is not None:
            await reading
        target = self._resolve(body, principal)
        call = self._prepare(body, target, stream=stream)
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._until_gone(asyncio.current_task()))
        try:
            await self._deps.proxy.serve(call, self._answer)
        finally:
            watch.cancel()

    def _authenticate(self) -> Principal:
        return self._deps.authenticate(self._endpoint.dialect.credential(self._headers))

    def _identity(self, target: Target | None) -> RawHeaders:
        row = self._row
        headers = identity_headers(row.id, row.client_request_id, target)
        return headers + self._endpoint.dialect.headers(headers[0][1])

    async def _read_body(self) -> bytes:
        headers = self._headers
        check_media_type(headers.get(b"content-type"), headers.get(b"content-encoding"))
        length = headers.get(b"content-length", b"")
        body = await read_body(
            self._receive,
            content_length=int(length) if length.isdigit() else None,
            limit_bytes=min(self._deps.max_body_bytes, self._endpoint.max_body_bytes or sys.maxsize),
            timeout_s=self._deps.body_timeout_s,
        )
        self._body_read = True
        return body

    def _resolve(self, body: dict[str, Any], principal: Principal) -> Target:
        row = self._row
        requested = body.get("model")
        if isinstance(requested, str):
            row.requested_model = requested[:_MAX_MODEL_CHARS].replace("\0", "")
        header = self._headers.get(b"x-turnout-subject")
        subject = subject_of(None if header is None else header.decode("latin-1"), body)
        target = resolve(
            self._deps.table(), requested, principal=principal, request_id=row.id, subject=subject
        )
        row.route, row.arm, row.unit, row.generation = (
            target.route,
            target.arm,
            target.unit,
            target.generation,
        )
        row.arm_probability = target.probability if target.route else None
        row.adapter = str(target.adapter) if target.adapter else BASE
        self._answer.headers = self._identity(target)
        return target

    def _prepare(self, body: dict[str, Any], target: Target, *, stream: bool) -> Call:
        endpoint, row = self._endpoint, self._row
        hide_usage = endpoint.complete(
            body, engine_model=target.engine_model, salt=self._deps.salt(row.tenant), request_id=row.id
        )
        payload = to_json(body)
        text_limit = 0
        if target.capture and endpoint.prompt is not None:
            text_limit = self._deps.recorder.text_limit
            if text_limit:
                row.prompt = endpoint.prompt(body, text_limit)
        self._redact = target.redact
        return Call(
            path=endpoint.path,
            payload=payload,
            target=target,
            stream=stream,
            hide_usage=hide_usage,
            text_limit=text_limit,
            row=row,
            received=self._began,
            shape=endpoint.shape,
            trace=self._trace.headers,
        )

    async def _until_gone(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel the request when its client goes away. Ended by cancellation when the request is over."""
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._gone = True
        if task is not None:
            task.cancel()

    async def _refuse(self, error: TurnoutError) -> None:
        """Send the error. What is left of a body that was not read is not waited for."""
        self._row.status, self._row.error_code = error.status, error.code or error.type
        await self._answer.error(error, close=not self._body_read)

    def _lost(self) -> None:
        self._row.status, self._row.error_code = CLIENT_GONE, "client_gone"

    def conclude(self) -> None:
        """Leave the row and the metrics. Without a valid key there is a metric and no row: nobody asked."""
        row = self._row
        row.latency_ms = (time.perf_counter() - self._began) * 1000
        self._deps.telemetry.finished(row)
        self._trace.finish(row)
        if self._principal is not None:
            self._deps.recorder.put(row, redacted=self._redact)
