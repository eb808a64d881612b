"""Attacks on the port itself: requests that can be read in two ways, heads without end, slow clients."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway.attackers import BODY, CHAT, Fort, fort
from tests.gateway.harness import wait_until


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    """One gateway for the module."""
    with fort(tmp_path_factory.mktemp("state")) as built:
        yield built


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    """One that waits for nobody: only those who are slow on purpose meet it, since any machine may stall."""
    limits = {"body_timeout_s": 1.0, "head_timeout_s": 1.5, "write_timeout_s": 0.5}
    with fort(tmp_path_factory.mktemp("hasty"), **limits) as built:
        yield built


SMUGGLED = b"GET /admin/keys HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

AMBIGUOUS: dict[str, tuple[list[str], bytes]] = {
    "CL.TE": ([LENGTH, "Transfer-Encoding: chunked"], b"0\r\n\r\n" + SMUGGLED),
    "TE.CL": (["Transfer-Encoding: chunked", "Content-Length: 4"], CHUNKED),
    "TE.TE": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], CHUNKED),
    "TE.TE, hidden": (["Transfer-Encoding: xchunked"], CHUNKED),
    "TE, chunked not last": (["Transfer-Encoding: chunked, identity"], CHUNKED),
    "TE, space before the colon": (["Transfer-Encoding : chunked"], CHUNKED),
    "TE, vertical tab": (["Transfer-Encoding: \x0bchunked"], CHUNKED),
    "two lengths": ([LENGTH, "Content-Length: 5"], BODY),
    "the same length twice": ([LENGTH, LENGTH], BODY),
    "a list of lengths": ([f"{LENGTH}, {len(BODY)}"], BODY),
    "a length with a sign": ([f"Content-Length: +{len(BODY)}"], BODY),
    "a negative length": (["Content-Length: -1"], BODY),
    "a length in hexadecimal": ([f"Content-Length: {len(BODY):#x}"], BODY),
    "a length beyond 64 bits": ([f"Content-Length: {2**64 + len(BODY)}"], BODY),
    "an empty length": (["Content-Length:"], BODY),
    "a length with a space in it": (["Content-Length: 6 6"], BODY),
    "space before a header": ([" X-A: 1", LENGTH], BODY),
    "NUL in a header": (["X-A: a\0b", LENGTH], BODY),
    "CR in a header": (["X-A: a\rContent-Length: 3", LENGTH], BODY),
    "a bare LF between headers": (["X-A: 1\nX-B: 2", LENGTH], BODY),
    "a header without a name": ([": 1", LENGTH], BODY),
    "a header without a colon": (["X-A", LENGTH], BODY),
    "a space in a header's name": (["X A: 1", LENGTH], BODY),
    "a chunk's size beyond 64 bits": (["Transfer-Encoding: chunked"], b"1" + b"0" * 16 + b"\r\n"),
    "a chunk's size that is no number": (["Transfer-Encoding: chunked"], b"zz\r\n"),
    "a negative chunk": (["Transfer-Encoding: chunked"], b"-1\r\n"),
    "a chunk without its end": (["Transfer-Encoding: chunked"], b"%x\r\n%bXX0\r\n\r\n" % (len(BODY), BODY)),
    "chunks with bare LF": (["Transfer-Encoding: chunked"], b"%x\n%b\n0\n\n" % (len(BODY), BODY)),
    "NUL in a chunk's extension": (
        ["Transfer-Encoding: chunked"],
        b"%x;a=\0\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    ),
}


@pytest.mark.parametrize("way", AMBIGUOUS)
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback"])
def test_what_could_be_read_in_two_ways_is_refused(there: Fort, way: str, path: str) -> None:
    """Such a request gets one 400 or 408 and the end of its connection, and nothing behind it is read."""
    there.engine.received.clear()
    lines, body = AMBIGUOUS[way]
    got = there.say(there.head(*lines, path=path) + body + SMUGGLED)
    assert got.count(b"HTTP/1.1 ") == 1, got
    assert got[9:12] in (b"400", b"408"), got
    assert [seen for seen in there.engine.received if seen.path != "/health"] == []


def test_a_folded_header_is_one_header(there: Fort) -> None:
    """A line that begins with a space goes on with the header before it, or is refused."""
    got = there.ask(there.head("X-A: 1", " Transfer-Encoding: chunked", LENGTH) + BODY)
    assert got[9:12] in (b"200", b"400")


def test_chunk_extensions_mean_nothing(there: Fort) -> None:
    """What may stand behind a chunk's size is skipped, as the standard has it."""
    extended = b"%x;name=value\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(BODY), BODY)
    assert there.ask(there.head("Transfer-Encoding: chunked") + extended).startswith(b"HTTP/1.1 200 ")


def test_trailers_are_no_headers(there: Fort) -> None:
    """A key behind the body is none."""
    trailed = CHUNKED[:-2] + f"Authorization: Bearer {there.admin}\r\n\r\n".encode()
    got = there.ask(
        there.head("Transfer-Encoding: chunked", path="/v1/feedback", key="tk-none") + trailed, b"}}"
    )
    assert got[9:12] in (b"400", b"401"), got


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"G\0T /healthz HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"CONNECT engine:8000 HTTP/1.1\r\nHost: engine:8000\r\n\r\n",
        b"POST * HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_request_of_ours(there: Fort, sent: bytes) -> None:
    """Other protocols, versions and targets get a refusal at most, and none a tunnel."""
    got = there.say(sent)
    assert not got.startswith(b"HTTP/1.1 2")
    assert b"HTTP/1.1 5" not in got


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer x", "X-Turnout-Subject: b", "Content-Type: text/plain"]
)
def test_a_header_that_decides_stands_there_once(there: Fort, header: str) -> None:
    """Of two keys, subjects or types nobody has to guess which one counts."""
    name = header.partition(":")[0]
    got = there.ask(there.head(f"{name}: one", header, LENGTH) + BODY, b"}}")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"repeated_header" in got


@pytest.mark.parametrize(
    "target", [f"http://x{CHAT}", f"HTTP://x:80{CHAT}?a=1", f"{CHAT}#part", f"{CHAT}?a=http://b/c"]
)
def test_targets_that_mean_a_hot_path(there: Fort, target: str) -> None:
    """A target with the server's name, a query or a fragment means the path that it holds, on both ways."""
    got = there.ask(there.head(LENGTH, path=target) + BODY, b"}}")
    assert got[9:12] in (b"200", b"400"), got


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "whatever"])
def test_an_upgrade_is_declined_with_an_answer(there: Fort, protocol: str) -> None:
    """A client that offers another protocol is told so, on every path, and nothing behind it is read."""
    offer = ["Connection: Upgrade", f"Upgrade: {protocol}"]
    got = there.say(there.head(*offer, LENGTH) + BODY + SMUGGLED)
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert b"without Upgrade" in got
    assert got.count(b"HTTP/1.1 ") == 1
    got = there.say(there.head(*offer, path="/healthz", method="GET") + SMUGGLED)
    assert got.startswith(b"HTTP/1.1 200 "), got
    assert got.count(b"HTTP/1.1 ") == 1


# --- too much ------------------------------------------------------------------------------------------

MANY = [f"X-{number}: 1" for number in range(101)]
LARGE: dict[str, bytes] = {
    "a long target": b"POST /" + b"a" * 2_000_000,
    "a long target of a whole request": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 2_000_000,
    "a long header of a whole request": b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "a header's long name": b"GET /healthz HTTP/1.1\r\n" + b"a" * 2_000_000,
    "many headers": b"GET /healthz HTTP/1.1\r\n" + "\r\n".join(MANY).encode() + b"\r\n\r\n",
    "many headers on a hot path": b"POST "
    + CHAT.encode()
    + b" HTTP/1.1\r\n"
    + "\r\n".join(MANY).encode()
    + b"\r\n\r\n",
    "headers without end": b"GET /healthz HTTP/1.1\r\n" + b"X-A: 1\r\n" * 200_000,
}


@pytest.mark.parametrize("way", LARGE)
@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_heads_without_end(there: Fort, way: str, first: bytes) -> None:
    """A head over the limit gets 431 and the end of its connection, on a fresh connection or a used one."""
    got = there.ask(first + LARGE[way], b"never")
    heads = [head[:3] for head in got.split(b"HTTP/1.1 ")[1:]]
    assert heads in ([b"200", b"431"] if first else [b"431"], [b"200"] if first else [], []), got[:300]


@pytest.mark.parametrize(
    "begin", [b"GET /healthz HTTP/1.1\r\nX-A: ", b"GET /", b"POST /v1/messages HTTP/1.1\r\nX"]
)
def test_a_head_is_refused_before_it_ends(there: Fort, begin: bytes) -> None:
    """The first bytes over the limit get 431, whatever may still come: nothing is collected without end."""
    got = there.ask(begin + b"a" * (16 * 1024 + 50 - len(begin)), b"never")
    assert got.startswith(b"HTTP/1.1 431 "), got


def test_large_heads_within_the_limit(there: Fort) -> None:
    """A hundred headers, and 15 KB of them, are fine."""
    lines = [f"X-{number}: {'v' * 140}" for number in range(95)]
    assert there.ask(there.head(*lines, LENGTH) + BODY).startswith(b"HTTP/1.1 200 ")


# --- too slow ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"", b"P", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_head_that_never_ends_is_cut(hasty: Fort, begin: bytes) -> None:
    """A connection that brings no whole head in time is closed, however steadily its bytes drip."""
    with hasty.connected() as connection:
        connection.sendall(begin)
        connection.settimeout(0.02)
        dripped = 0
        while True:
            try:
                if not connection.recv(100):
                    break
            except TimeoutError:
                connection.sendall(b"a")
                dripped += 1
                assert dripped < 500, "it was never cut"
            except ConnectionResetError:
                break


@pytest.mark.slow
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/admin/keys"])
def test_a_body_that_never_ends_is_cut(hasty: Fort, path: str) -> None:
    """A body that drips gets 408 when its time is over, on every endpoint, and the connection ends."""
    with hasty.connected() as connection:
        connection.sendall(hasty.head("Content-Length: 10000", path=path, key=hasty.admin))
        connection.settimeout(0.02)
        got = b""
        for _ in range(500):
            try:
                piece = connection.recv(65536)
                got += piece
                if not piece:
                    break
            except TimeoutError:
                connection.sendall(b" ")
            except (ConnectionResetError, BrokenPipeError):
                break
        else:
            pytest.fail("it was never cut")
    wanted = b"403" if path == CHAT else b"408"  # the hot path has looked at the key before
    assert got[9:12] == wanted, got
    assert b"connection: close" in got


@pytest.mark.slow
def test_who_takes_nothing_of_an_answer_is_cut(hasty: Fort) -> None:
    """A client that does not read its stream loses it, and holds no place at the engine."""
    hasty.engine.knobs.tokens = 200_000
    hasty.engine.knobs.token_delay_s = 0.0
    before = hasty.gateway.metric("turnout_disconnects_total")
    body = json.dumps({**json.loads(BODY), "stream": True}).encode()
    try:
        with hasty.connected() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(hasty.head(f"Content-Length: {len(body)}") + body)
            wait_until(lambda: hasty.gateway.metric("turnout_disconnects_total") == before + 1, 30)
            wait_until(lambda: hasty.gateway.ready()["in_flight"] == 0)
    finally:
        hasty.engine.knobs = type(hasty.engine.knobs)()


def test_an_answer_under_way_stays_whole(there: Fort) -> None:
    """Nonsense behind a request ends the connection; no refusal is written into the answer before it."""
    there.engine.knobs.start_delay_s = 0.2
    try:
        got = there.say(there.head(LENGTH) + BODY + b"\x00nonsense\r\n\r\n")
    finally:
        there.engine.knobs = type(there.engine.knobs)()
    assert b"400 Bad Request" not in got or not got.startswith(b"HTTP/1.1 200")
    assert got.count(b"HTTP/1.1 ") <= 1
    assert httpx.get(f"{there.gateway.url}/healthz").status_code == 200
