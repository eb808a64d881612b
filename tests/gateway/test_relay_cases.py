"""One table of what engines do, and what follows.

For each case: what the client got, the exact bytes that the engines got, how often, the recorded row, and the
metrics during and after.

`e0` does what the case says and is asked first; `e1` is well unless the case says otherwise.
"""

from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from gateway.auth import TenantSalts
from gateway.peppers import load_pepper
from tests.fake_engine_http import Request
from tests.gateway.conftest import Rig

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
ASKED = {"model": "support", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
WHOLE = "support@1: w1 w2 w3"


@dataclass(frozen=True)
class Case:
    """What `e0` and `e1` do, and what follows. `sent` are the engines that got the request, in order.

    `retries` are counts by cause. `events`: how many events with content come before an error event.
    """

    name: str
    e0: dict[str, Any]
    status: int = 200
    code: str | None = None
    sent: tuple[str, ...] = ("e0",)
    retries: dict[str, int] = field(default_factory=dict)
    e1: dict[str, Any] = field(default_factory=dict)
    streamed: tuple[bool, ...] = (False, True)
    events: int | None = None
    forgets: bool = False


TWICE = ("e0", "e1")
CASES = [
    Case("answers", {}),
    Case("is slow", {"start_delay_s": 0.1}),
    Case("is slow to end its stream", {"linger_s": 0.2}, streamed=(True,)),
    Case("is busy", {"fail_status": 429}, sent=TWICE, retries={"busy": 1}),
    Case("is not ready", {"fail_status": 503}, sent=TWICE, retries={"unavailable": 1}),
    Case(
        "both are busy",
        {"fail_status": 429},
        429,
        "engine_busy",
        TWICE,
        {"busy": 1},
        e1={"fail_status": 429},
    ),
    Case(
        "both are not ready",
        {"fail_status": 503},
        503,
        "engine_unavailable",
        TWICE,
        {"unavailable": 1},
        e1={"fail_status": 503},
    ),
    Case("is not ready and sick", {"fail_status": 503, "healthy": False}, 503, "engine_unavailable"),
    Case(
        "is busy, the other fails",
        {"fail_status": 429},
        502,
        "upstream_failed",
        TWICE,
        {"busy": 1},
        e1={"fail_status": 500},
    ),
    Case("fails", {"fail_status": 500}, 502, "upstream_failed"),
    Case("fails and is sick", {"fail_status": 500, "healthy": False}, 502, "replica_died"),
    Case("fails and is silent", {"fail_status": 500, "health_delay_s": 60.0}, 502, "upstream_failed"),
    Case(
        "drops it and is silent",
        {"close_before_headers": True, "health_delay_s": 60.0},
        502,
        "replica_died",
        streamed=(False,),
    ),
    Case(
        "drops it and is late to say that it is well",
        {"close_before_headers": True, "health_delay_s": 3.0, "late_checks": 2},
        sent=TWICE,
        retries={"lost": 1},
        streamed=(False,),
    ),
    Case("refuses the request", {"fail_status": 400}, 400, None),
    Case("drops it", {"close_before_headers": True}, sent=TWICE, retries={"lost": 1}),
    Case(
        "both drop it",
        {"close_before_headers": True},
        502,
        "upstream_failed",
        TWICE,
        {"lost": 1},
        e1={"close_before_headers": True},
    ),
    Case("drops it and is sick", {"close_before_headers": True, "healthy": False}, 502, "replica_died"),
    Case("has no end of headers", {"endless_headers": True}, 502, "upstream_failed"),
    Case("hangs", {"hang": True}, 504, "upstream_timeout"),
    Case("answers as the base model", {"answer_as_base": True}, 502, "wrong_model"),
    Case(
        "drops it at once",
        {"drop_after_chunks": 0},
        sent=TWICE,
        retries={"lost": 1},
        streamed=(True,),
    ),
    Case("drops the stream", {"drop_after_chunks": 3}, 502, "upstream_failed", streamed=(True,), events=3),
    Case(
        "ends the stream early", {"end_after_chunks": 3}, 502, "upstream_failed", streamed=(True,), events=3
    ),
    Case("breaks off", {"error_after_chunks": 3}, 502, "upstream_failed", streamed=(True,), events=3),
    Case(
        "breaks off and is sick",
        {"error_after_chunks": 3, "healthy": False},
        502,
        "replica_died",
        streamed=(True,),
        events=3,
    ),
    Case("has lost the adapter", {}, sent=TWICE, retries={"not_registered": 1}, forgets=True),
]


def metrics(rig: Rig) -> dict[str, float]:
    """Every sample of /metrics but the buckets."""
    text = httpx.get(f"{rig.gateway.url}/metrics").text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines if "_bucket" not in name}


def payload(rig: Rig, asked: dict[str, Any]) -> bytes:
    """What an engine must get, byte for byte."""
    salt = TenantSalts(load_pepper(rig.gateway.app.state.gateway._settings.state_dir)).of("default")
    body: dict[str, Any] = {**asked, "model": "support@1", "cache_salt": salt}
    if "stream" in asked:
        body["stream_options"] = {"continuous_usage_stats": False, "include_usage": True}
    return orjson.dumps(body)


@pytest.mark.parametrize(
    ("case", "stream"),
    [
        pytest.param(case, stream, id=f"{case.name}{', streaming' * stream}")
        for case in CASES
        for stream in case.streamed
    ],
)
def test_what_an_engine_does(rig: Rig, case: Case, *, stream: bool) -> None:
    """Client, engines, row and metrics tell the same story, and nothing is left under way."""
    parts = rig.gateway.app.state.gateway
    sent: list[tuple[str, Request, dict[str, int], int]] = []
    for name, knobs in (("e0", case.e0), ("e1", case.e1)):
        for knob, value in knobs.items():
            if knob != "healthy":
                setattr(rig.engines[name].knobs, knob, value)

        def note(request: Request, name: str = name, healthy: bool = knobs.get("healthy", True)) -> None:
            if request.path == CHAT:
                if case.code == "upstream_timeout":
                    rig.gateway.limit(first_byte_timeout_s=0.2)
                # It falls ill under the request: earlier, the rounds of the health checks might see it.
                rig.engines[name].knobs.healthy = healthy
                sent.append((name, request, parts.in_flight.counts(), parts.pool.leased))

        rig.engines[name].on_request = note
    forgotten = rig.engines["e0"]._paths.pop("support@1") if case.forgets else None
    parts.pool._turn = 1  # the next first choice is e0
    if "health_delay_s" in case.e0:  # one that is late twice must be in time then
        rig.gateway.limit(health_timeout_s=1.0 if "late_checks" in case.e0 else 0.3)
    before = metrics(rig)
    # Each case asks something else: what an engine died under is refused for a while.
    asked = {**ASKED, "seed": CASES.index(case), **({"stream": True} if stream else {})}
    try:
        answer = rig.http.post(CHAT, json=asked)
    finally:
        if forgotten is not None:
            rig.engines["e0"]._paths["support@1"] = forgotten
    rig.idle()
    check_client(answer, case, stream=stream)
    check_upstream(case, answer, sent, payload(rig, asked))
    check_row(rig, case, answer)
    check_metrics(before, metrics(rig), case)


def check_client(answer: httpx.Response, case: Case, *, stream: bool) -> None:
    """The answer's status and body."""
    begun = case.events is not None
    assert answer.status_code == (200 if begun else case.status)
    assert "secret" not in answer.text or case.status == 400
    data = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    if case.status != 200:
        error = orjson.loads(data[-1] if begun else answer.content)["error"]
        assert error["code"] == case.code
        if begun:
            assert len(data) == (case.events or 0) + 1
        assert ("retry-after" in answer.headers) is (case.status in (429, 503))
    elif stream:
        assert data[-1] == "[DONE]"
        choices = [orjson.loads(each)["choices"] for each in data[:-1]]
        assert "".join(choice[0]["delta"]["content"] for choice in choices) == WHOLE
    else:
        assert answer.json()["choices"][0]["message"]["content"] == WHOLE


def check_upstream(
    case: Case,
    answer: httpx.Response,
    sent: list[tuple[str, Request, dict[str, int], int]],
    expected: bytes,
) -> None:
    """Which engines got the request, the bytes, and what was under way meanwhile."""
    assert tuple(name for name, *_ in sent) == case.sent
    for _, request, in_flight, leased in sent:
        assert request.body == expected
        assert set(request.headers) == {"host", "content-type", "content-length", "x-request-id"}
        assert request.headers["x-request-id"] == answer.headers["x-request-id"]
        assert (in_flight, leased) == ({"support@1": 1}, 1)


def check_row(rig: Rig, case: Case, answer: httpx.Response) -> None:
    """The recorded row."""
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.attempts, row.replica) == (case.status, len(case.sent), case.sent[-1])
    assert row.error_code == (case.code if case.status != 400 else "invalid_request_error")
    assert (row.route, row.adapter, row.prompt) == ("support", "support@1", "hello")
    if case.status == 200:
        assert (row.answer, row.completion_tokens, row.finish_reason) == (WHOLE, 4, "length")


def check_metrics(before: dict[str, float], after: dict[str, float], case: Case) -> None:
    """What was counted, and that nothing is under way."""
    labels = 'adapter="support@1",endpoint="chat/completions",route="support"'
    expected = {f'turnout_requests_total{{{labels},status="{case.status}"}}': 1.0}
    expected |= {f'turnout_retries_total{{cause="{cause}"}}': float(n) for cause, n in case.retries.items()}
    if case.status != 200:
        expected[f'turnout_errors_total{{code="{case.code or "invalid_request_error"}"}}'] = 1.0
    if case.code == "replica_died":
        expected['turnout_replica_deaths_total{replica="e0"}'] = 1.0
    if case.code == "wrong_model":
        expected['turnout_wrong_model_total{adapter="support@1"}'] = 1.0
    watched = ("requests_total", "retries_total", "errors_total", "deaths_total", "wrong_model_total")
    grown = {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if name.split("{")[0].endswith(watched) and value != before.get(name, 0.0)
    }
    assert grown == expected
    assert not [name for name in after if name.startswith("turnout_in_flight")]
    assert after["turnout_queued_requests"] == 0
