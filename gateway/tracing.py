"""Traces: one span a request, exported by OTLP when an endpoint is configured.

OpenTelemetry is imported only then (the extra `tracing`). Otherwise a trace that the client began goes on to
the engine as it came, and nothing else happens.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from gateway.core.requests import RequestRow

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
_WELL_FORMED = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9a-zA-Z-]{1,200})?")
_MAX_STATE_BYTES = 512
_FLUSH_TIMEOUT_MS = 5000


class TracingMissing(Exception):
    """An OTLP endpoint is configured, and OpenTelemetry is not installed."""


class Trace(Protocol):
    """The span of one request."""

    @property
    def headers(self) -> dict[str, str] | None:
        """What the engine gets of the trace."""

    def finish(self, row: RequestRow) -> None:
        """End the span with what the row says."""


class PassedOn:
    """A client's own trace, passed on unchanged."""

    __slots__ = ("headers",)

    def __init__(self, headers: dict[str, str] | None) -> None:
        self.headers = headers

    def finish(self, row: RequestRow) -> None:
        """Do nothing: there is no span of ours."""


_NO_TRACE = PassedOn(None)


class NoTracing:
    """What stands for `Tracing` when no endpoint is configured."""

    def begin(self, endpoint: str, headers: Mapping[bytes, bytes]) -> Trace:  # noqa: ARG002 - as Tracing's
        """Return what is passed on of the client's trace."""
        if TRACEPARENT not in headers:
            return _NO_TRACE
        return PassedOn(incoming(headers) or None)

    def close(self) -> None:
        """Do nothing."""


class Tracing:
    """Makes spans and exports them from a thread, in batches. `close` exports what is left.

    `share` of the traces that no client has begun are kept; of the others, those that the client keeps.
    """

    def __init__(self, exporter: "SpanExporter", *, share: float, service: str = "turnout-gateway") -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - installed with the extra `tracing`
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}),
            sampler=ParentBased(TraceIdRatioBased(share)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("turnout")
        self._context = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    def begin(self, endpoint: str, headers: Mapping[bytes, bytes]) -> Trace:
        """Begin the span of a request to `endpoint`, as a child of the client's when it has one."""
        parent = self._context.extract(incoming(headers)) if TRACEPARENT in headers else None
        span = self._tracer.start_span(endpoint, context=parent, kind=self._kind)
        return _Spanned(span, self._outgoing(span))

    def close(self) -> None:
        """Export what waits, within a few seconds."""
        self._provider.force_flush(_FLUSH_TIMEOUT_MS)
        self._provider.shutdown()

    def _outgoing(self, span: "Span") -> dict[str, str]:
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        carrier: dict[str, str] = {}
        self._context.inject(carrier, set_span_in_context(span))
        return carrier


class _Spanned:
    """A request with a span of ours."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: "Span", headers: dict[str, str]) -> None:
        self.headers: dict[str, str] | None = headers
        self._span = span

    def finish(self, row: RequestRow) -> None:
        """End the span with what the row says."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        span = self._span
        if span.is_recording():
            span.set_attributes(
                {name: value for name, value in _attributes(row).items() if value is not None}
            )
            if row.status >= 500:
                span.set_status(Status(StatusCode.ERROR, row.error_code))
        span.end()


def make(endpoint: str | None, *, share: float) -> "Tracing | NoTracing":
    """Return what traces requests; `endpoint` is an OTLP/HTTP address such as http://localhost:4318.

    Raises:
        TracingMissing: an endpoint is given, and OpenTelemetry is not installed.
    """
    if endpoint is None:
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError as error:
        raise TracingMissing(
            "tracing.otlp_endpoint is set, and OpenTelemetry is not installed: pip install 'turnout[tracing]'"
        ) from error
    return Tracing(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"), share=share)


def incoming(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return a client's trace headers when they are well formed, else nothing (W3C Trace Context)."""
    parent = headers.get(TRACEPARENT, b"")
    if _WELL_FORMED.fullmatch(parent) is None:
        return {}
    passed = {"traceparent": parent.decode("ascii")}
    state = headers.get(TRACESTATE, b"")
    if state and len(state) <= _MAX_STATE_BYTES and state.isascii() and state.decode("ascii").isprintable():
        passed["tracestate"] = state.decode("ascii")
    return passed


def _attributes(row: RequestRow) -> dict[str, str | int | float | None]:
    return {
        "http.request.method": "POST",
        "http.response.status_code": row.status,
        "error.type": row.error_code,
        "gen_ai.request.model": row.requested_model,
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "turnout.request_id": row.id,
        "turnout.route": row.route,
        "turnout.adapter": row.adapter or None,
        "turnout.arm": row.arm,
        "turnout.replica": row.replica,
        "turnout.attempts": row.attempts,
        "turnout.queue_ms": row.queue_ms,
        "turnout.ttft_ms": row.ttft_ms,
        "turnout.streamed": row.streamed,
    }
