"""The hot path: `/v1/chat/completions` and `/v1/completions` as raw ASGI endpoints.

authenticate → resolve → lease and relay (`gateway.proxy`) → record, one direction. A client that goes away
cancels its own request, wherever that is waiting; what was taken is given back in `finally`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.api.answer import Answer, Send
from gateway.api.headers import clean_client_id, identity_headers
from gateway.api.request_body import (
    ClientGone,
    check_media_type,
    parse_body,
    payload_for_engine,
    prompt_text,
    read_body,
    streams,
)
from gateway.auth import require
from gateway.core.refs import BASE
from gateway.core.requests import Principal, RequestRow, Role, Target
from gateway.errors import Internal, TurnoutError, Unavailable
from gateway.proxy import Call, Proxy
from gateway.recording import Recorder
from gateway.routing.resolve import resolve, subject_of
from gateway.routing.table import RoutingTable
from gateway.telemetry import Telemetry

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLIENT_GONE = 499
_MAX_MODEL_CHARS = 256
_log = logging.getLogger("turnout.completions")


@dataclass(frozen=True, slots=True)
class HotPath:
    """What the stages of a request need."""

    new_id: Callable[[], str]
    authenticate: Callable[[str | None], Principal]
    table: Callable[[], RoutingTable]
    proxy: Proxy
    recorder: Recorder
    telemetry: Telemetry
    max_body_bytes: int
    body_timeout_s: float


class GenerationEndpoint:
    """One path of the engine's API, for every client."""

    def __init__(self, path: str, deps: HotPath) -> None:
        self._path = path
        self._endpoint = path.removeprefix("/v1/")
        self._deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and leave its row and its metrics behind."""
        exchange = _Exchange(self._path, self._endpoint, self._deps, scope=scope, receive=receive, send=send)
        try:
            await exchange.serve()
        finally:
            exchange.conclude()


class _Exchange:
    """One request from its headers to its row."""

    def __init__(
        self, path: str, endpoint: str, deps: HotPath, *, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._began = time.perf_counter()
        self._path = path
        self._deps = deps
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._row = RequestRow(
            deps.new_id(),
            time.time(),
            endpoint,
            client_request_id=clean_client_id(self._headers.get(b"x-request-id")),
        )
        self._answer = Answer(send, identity_headers(self._row.id, self._row.client_request_id, None))
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
        stream = self._row.streamed = streams(body)
        target = self._resolve(body, principal)
        call = self._prepare(body, target, stream=stream)
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._until_gone(asyncio.current_task()))
        try:
            await self._deps.proxy.serve(call, self._answer)
        finally:
            watch.cancel()

    def _authenticate(self) -> Principal:
        given = self._headers.get(b"authorization")
        return self._deps.authenticate(None if given is None else given.decode("latin-1"))

    async def _read_body(self) -> bytes:
        headers = self._headers
        check_media_type(headers.get(b"content-type"), headers.get(b"content-encoding"))
        length = headers.get(b"content-length", b"")
        body = await read_body(
            self._receive,
            content_length=int(length) if length.isdigit() else None,
            limit_bytes=self._deps.max_body_bytes,
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
        self._answer.headers = identity_headers(row.id, row.client_request_id, target)
        return target

    def _prepare(self, body: dict[str, Any], target: Target, *, stream: bool) -> Call:
        text_limit = self._deps.recorder.text_limit if target.capture else 0
        if text_limit:
            self._row.prompt = prompt_text(body, text_limit)
        self._redact = target.redact
        payload, hide_usage = payload_for_engine(body, engine_model=target.engine_model, stream=stream)
        return Call(
            path=self._path,
            payload=payload,
            target=target,
            stream=stream,
            hide_usage=hide_usage,
            text_limit=text_limit,
            row=self._row,
            received=self._began,
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
        if self._principal is not None:
            self._deps.recorder.put(row, redacted=self._redact)
