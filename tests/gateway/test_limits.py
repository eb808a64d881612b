"""Queues, limits and clients that go away: what is refused, what is aborted, and that nothing is left."""

import concurrent.futures
import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from gateway.core.requests import RequestRow
from tests.fake_engine import Knobs
from tests.gateway.conftest import Rig
from tests.gateway.harness import wait_until

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
SOLO = {"model": "solo", "messages": [{"role": "user", "content": "hello"}]}


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def test_a_full_queue_and_a_wait_that_is_too_long(rig: Rig) -> None:
    """Beyond places and queue a request gets 429 with Retry-After; one that waits too long gets 504."""
    rig.engines["e0"].knobs.hang = True
    with concurrent.futures.ThreadPoolExecutor(8) as threads:

        def ask() -> concurrent.futures.Future[httpx.Response]:
            return threads.submit(rig.http.post, CHAT, json=SOLO)

        held = [ask(), ask()]
        wait_until(lambda: rig.engines["e0"].running == 2)
        rig.gateway.limit(queue_timeout_s=0.1)
        assert said(ask().result()) == (504, "queue_timeout")
        rig.gateway.limit()
        queued = [ask(), ask()]
        wait_until(lambda: rig.gateway.metric("turnout_queued_requests") == 2)
        refused = ask().result()
        assert said(refused) == (429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        rig.gateway.limit(first_byte_timeout_s=0.2)
        assert {said(future.result()) for future in held + queued} == {(504, "upstream_timeout")}
    rig.idle()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("moment", ["before the head", "in the queue", "in the stream"])
def test_a_client_that_goes_away(rig: Rig, moment: str, *, stream: bool) -> None:
    """Whenever a client leaves, its work at the engine is aborted, nothing is held, and the row says 499."""
    engine = rig.engines["e0"]
    engine.knobs.tokens, engine.knobs.token_delay_s = 10_000, 0.05
    if moment != "in the stream":
        engine.knobs.start_delay_s = 600.0
    before = rig.gateway.metric("turnout_disconnects_total")
    holders = 2 if moment == "in the queue" else 0
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        held = [threads.submit(rig.http.post, CHAT, json=SOLO) for _ in range(holders)]
        wait_until(lambda: engine.running == holders)
        leave(rig, moment, stream=stream)
        wait_until(lambda: rig.gateway.metric("turnout_disconnects_total") == before + 1)
        wait_until(lambda: engine.running == holders)
        wait_until(lambda: rig.gateway.metric("turnout_queued_requests") == 0)
        assert engine.aborted == (0 if moment == "in the queue" else 1)
        engine.knobs = Knobs()
        engine.close_connections()
        for future in held:
            future.result()
    rig.idle()
    rows = rig.gateway.store.requests

    def newest() -> RequestRow:
        return max(rows.window("solo"), key=lambda row: row.at)

    wait_until(lambda: newest().status == 499)
    assert newest().error_code == "client_gone"


def leave(rig: Rig, moment: str, *, stream: bool) -> None:
    """Send a request and close its connection at that moment."""
    engine = rig.engines["e0"]
    body = json.dumps({**SOLO, "stream": stream}).encode()
    running = engine.running
    address = httpx.URL(rig.gateway.url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        if moment == "in the queue":
            wait_until(lambda: rig.gateway.metric("turnout_queued_requests") == 1)
        else:
            wait_until(lambda: engine.running == running + 1)
        if moment == "in the stream" and stream:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_body_that_stalls(rig: Rig) -> None:
    """A client that stops sending its body gets 408, and its connection is closed."""
    rig.gateway.limit(body_timeout_s=0.3)
    address = httpx.URL(rig.gateway.url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b'transfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n'
        )
        got = b""
        while data := connection.recv(65536):
            got += data
    assert got.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in got


def test_a_body_over_the_limit_is_not_read(rig: Rig) -> None:
    """A declared length over the limit is refused before the body is sent; a chunked one while it is."""
    address = httpx.URL(rig.gateway.url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 99999999\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 4096

    answer = rig.http.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
