"""Traces: a client's own is passed on; with an endpoint, one span a request reaches the collector."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import tracing
from gateway.tracing import NoTracing, TracingMissing, incoming
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.conftest import Rig
from tests.gateway.harness import Gateway, running, settings_for, wait_until

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def chat(model: str = "support") -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ({"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT}),
        (
            {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2"},
            {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2"},
        ),
        ({"traceparent": TRACEPARENT, "tracestate": "a=" + "x" * 600}, {"traceparent": TRACEPARENT}),
        ({"traceparent": TRACEPARENT.upper()}, {}),
        ({"traceparent": "00-1-2-3"}, {}),
        ({"traceparent": ""}, {}),
        ({"tracestate": "a=1"}, {}),
        ({}, {}),
    ],
)
def test_a_clients_own_trace_is_passed_on(rig: Rig, headers: dict[str, str], passed: dict[str, str]) -> None:
    """Without an endpoint, well-formed trace headers reach the engine as they came; others do not."""
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    assert incoming(raw) == passed
    assert (NoTracing().begin("x", raw).headers or {}) == passed
    assert rig.http.post(CHAT, json=chat("solo"), headers=headers).status_code == 200
    (request,) = rig.engines["e0"].posts()
    assert {name: value for name, value in request.headers.items() if name.startswith("trace")} == passed


class Collector:
    """An OTLP collector on a loopback port; `spans` is what it got."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = ""

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector until the block ends."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def traced(tmp_path: Path, url: str, **fields: Any) -> Iterator[tuple[Gateway, FakeEngine]]:
    """A gateway that exports its traces, in front of one engine with `support@1`."""
    settings = settings_for(tmp_path, tracing={"otlp_endpoint": url, **fields})
    with fake_engine.start() as engine, running(settings) as gateway:
        gateway.store.engines({"e0": engine})
        label = gateway.store.version("support")
        engine.register(label)
        gateway.store.attest("e0", engine, label)
        gateway.store.route("support", {label: 1.0})
        gateway.settle()
        yield gateway, engine


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_span_for_each_request(tmp_path: Path) -> None:
    """The span has the request's story, the client's span as its parent, and is the engine's parent."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with collecting() as collector:
        with traced(tmp_path, collector.url) as (gateway, engine):
            headers = {"traceparent": TRACEPARENT}
            answer = httpx.post(f"{gateway.url}{CHAT}", json=chat(), headers=headers)
            assert answer.status_code == 200
            engine.knobs.fail_status = 500
            assert httpx.post(f"{gateway.url}{CHAT}", json=chat()).status_code == 502
            first, second = (request.headers["traceparent"].split("-") for request in engine.posts())
        wait_until(lambda: len(collector.spans) == 2)
    ours, failed = collector.spans
    assert collector.services == {"turnout-gateway"}
    assert (ours.trace_id.hex(), ours.parent_span_id.hex()) == (TRACE, PARENT)
    assert first[1:3] == [ours.trace_id.hex(), ours.span_id.hex()]
    assert ours.name == "chat/completions"
    told = attributes(ours)
    assert told["turnout.request_id"] == answer.headers["x-request-id"]
    assert (told["turnout.route"], told["turnout.adapter"]) == ("support", "support@1")
    assert (told["turnout.arm"], told["turnout.replica"]) == ("support@1", "e0")
    assert told["http.response.status_code"] == 200
    assert (failed.parent_span_id, second[1]) == (b"", failed.trace_id.hex())
    assert (failed.status.code, failed.status.message) == (2, "upstream_failed")
    assert attributes(failed)["error.type"] == "upstream_failed"


def test_a_trace_that_is_not_kept(tmp_path: Path) -> None:
    """With a share of 0 nothing is exported but what a client keeps, and the engine is told so."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with collecting() as collector:
        with traced(tmp_path, collector.url, share=0.0) as (gateway, engine):
            assert httpx.post(f"{gateway.url}{CHAT}", json=chat()).status_code == 200
            flags = engine.posts()[0].headers["traceparent"].rsplit("-", 1)[1]
            assert not int(flags, 16) & 1
        assert collector.spans == []


def test_opentelemetry_is_imported_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint it is not imported; with one, and not installed, the message says what to do."""
    code = "import sys, gateway.app; sys.exit(any(m.startswith('opentelemetry') for m in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingMissing, match=r"turnout\[tracing\]"):
        tracing.make("http://localhost:4318", share=1.0)
    assert isinstance(tracing.make(None, share=1.0), NoTracing)
