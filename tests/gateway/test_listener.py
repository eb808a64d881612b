"""The gateway's port, byte by byte: framing, pipelining, slow and odd clients, and both ways side by side."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.app import create_app
from tests.gateway.conftest import Rig
from tests.gateway.harness import settings_for

CHAT = "/v1/chat/completions"
END = b'"completion_tokens": 4}}'


def request(
    path: str = CHAT, *, version: str = "1.1", headers: str = "", stream: bool = False, **fields: Any
) -> bytes:
    """A chat request as a client writes it."""
    body = json.dumps(
        {"model": "support", "messages": [{"role": "user", "content": "hello"}], "stream": stream, **fields}
    ).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def connected(rig: Rig) -> Iterator[socket.socket]:
    """A connection to the gateway."""
    address = httpx.URL(rig.gateway.url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as there:
        yield there


def until(there: socket.socket, end: bytes, times: int = 1) -> bytes:
    """Read until `end` has come so many times, or the connection ends."""
    got = b""
    while got.count(end) < times and (piece := there.recv(65536)):
        got += piece
    return got


def rest(there: socket.socket) -> bytes:
    """Read until the connection ends."""
    return until(there, b"\0never\0")


@pytest.mark.parametrize("cut", [1, 7, 40, 10_000])
def test_a_request_in_pieces(rig: Rig, cut: int) -> None:
    """However a request is cut into packets, its answer is the same."""
    whole = request()
    with connected(rig) as there:
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), cut):
            there.sendall(whole[start : start + cut])
        got = until(there, END)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nx-turnout-adapter: support@1\r\n" in got
    assert b"\r\ndate: " in got
    rig.idle()


def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    """Hot and other requests on one connection, sent at once, are answered one after another."""
    sent = request(user="first") + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + request(stream=True)
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(rig) as there:
        there.sendall(sent + last)
        got = rest(there)
    heads = [part for part in got.split(b"HTTP/1.1 ") if part]
    assert [head[:3] for head in heads] == [b"200"] * 4
    kinds = [
        (b"chat.completion" in head, b"data: [DONE]" in head, b"chunked" in head.partition(b"\r\n\r\n")[0])
        for head in heads
    ]
    assert kinds == [(True, False, False), (False, False, False), (True, True, True), (False, False, False)]
    rig.idle()


def test_many_pipelined_errors(rig: Rig) -> None:
    """A thousand requests at once that are all refused neither exhaust the stack nor lose an answer."""
    with connected(rig) as there:
        there.sendall(request(model="nobody") * 1000)
        got = until(there, b"model_not_found", times=1000)
    assert got.count(b"HTTP/1.1 404 ") == 1000


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0_ends_with_its_connection(rig: Rig, stream: bool) -> None:
    """A client of HTTP/1.0 gets no chunks, and its answer ends with the connection."""
    with connected(rig) as there:
        there.sendall(request(version="1.0", stream=stream))
        head, _, body = rest(there).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.endswith(b"data: [DONE]\n\n") if stream else json.loads(body)["model"] == "support@1"


def test_connection_close_is_kept(rig: Rig) -> None:
    """A client that asks for the end of its connection gets it, and is told so."""
    with connected(rig) as there:
        there.sendall(request(headers="Connection: close\r\n"))
        got = rest(there)
    assert b"\r\nconnection: close\r\n" in got
    assert END in got


def test_a_client_that_waits_to_be_asked_for_its_body(rig: Rig) -> None:
    """`Expect: 100-continue` is answered before the body is read."""
    head, _, body = request(headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with connected(rig) as there:
        there.sendall(head + b"\r\n\r\n")
        assert until(there, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        there.sendall(body)
        assert until(there, END).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "path", [f"{CHAT}?api-version=1", "/v1/chat%2Fcompletions", "/v1/%63hat/completions"]
)
def test_other_ways_to_write_a_hot_path(rig: Rig, path: str) -> None:
    """A query and escapes lead to the same endpoint."""
    with connected(rig) as there:
        there.sendall(request(path))
        assert until(there, END).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_a_body_over_the_limit_is_not_read(rig: Rig, size: int) -> None:
    """A chunked body is refused when it passes the limit, and the connection ends."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with connected(rig) as there:
        there.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        there.sendall(b"%x\r\n%s\r\n" % (size, b" " * min(size, 200_000)))
        got = until(there, b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in got
    rig.idle()


def test_what_is_no_http_ends_the_connection(rig: Rig) -> None:
    """Bytes that are no request get a 400, also behind a request that was answered."""
    with connected(rig) as there:
        there.sendall(request())
        until(there, END)
        there.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"400 Bad Request" in rest(there)
    rig.idle()


def test_under_another_protocol_the_app_says_so(tmp_path: Any) -> None:
    """An app that another server's protocol serves refuses the hot paths with the reason."""
    app = create_app(settings_for(tmp_path))
    assert uvicorn.Config(app, http=app.state.listener).http is app.state.listener

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return await http.post(CHAT, json={})

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert "turnout serve" in answer.json()["error"]["message"]
