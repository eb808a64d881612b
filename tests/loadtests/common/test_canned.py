"""The canned engine and the client that loads use: any cut of the bytes gives the same exchange."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from loadtests.common.canned import Engine, Events, Stats, Templates
from loadtests.common.http_client import Connection, render
from loadtests.overhead.bodies import MODEL, bodies

URL = "http://127.0.0.1:9/v1/chat/completions"


class _Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False


def _exchange(request: bytes, *, cut: int) -> tuple[bytes, Stats]:
    """What the engine answers to bytes that arrive in pieces of `cut`."""

    async def play() -> tuple[bytes, Stats]:
        stats, wire = Stats(), _Wire()
        engine = Engine(stats, Templates(), gap_s=0.0)
        engine.connection_made(wire)
        for at in range(0, len(request), cut):
            engine.data_received(request[at : at + cut])
        return wire.written, stats

    return asyncio.run(play())


@pytest.mark.parametrize("cut", [1, 7, 1000, 100_000])
def test_requests_are_answered_however_they_arrive(cut: int) -> None:
    """Two requests on one connection get two answers, which name the model that was asked."""
    request = render(URL, json.dumps({"model": "support@3", "messages": []}).encode(), {})
    answers, stats = _exchange(request * 2, cut=cut)
    assert stats.received == stats.answered == 2
    head, _, rest = answers.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    document = json.loads(rest[:length])
    assert document["model"] == "support@3"
    assert rest[length:].startswith(b"HTTP/1.1 200 OK")


def test_events_have_vllms_shape() -> None:
    """Role first, then text, a finish reason on the last token, and usage without choices."""
    events = Events(b"support@3", 7)

    def parsed() -> Iterator[dict[str, object]]:
        for event in (events.first, events.token % 12, events.last % 34, events.usage % (2, 222)):
            assert event.startswith(b"data: ")
            assert event.endswith(b"\n\n")
            yield json.loads(event[6:])

    first, token, last, usage = parsed()
    assert {event["model"] for event in (first, token, last, usage)} == {"support@3"}
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert token["choices"][0]["delta"] == {"content": " 0000000012"}  # type: ignore[index]
    assert last["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 220, "completion_tokens": 2, "total_tokens": 222}


@pytest.mark.parametrize("cut", [1, 3, 1000])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_the_client_sees_one_end(answer: bytes, cut: int) -> None:
    """However an answer arrives, its end is reported once, with its status."""
    ends: list[int] = []
    connection = Connection(lambda _, status: ends.append(status))
    connection.connection_made(_Wire())
    connection.send(b"request")
    for at in range(0, len(answer), cut):
        connection.data_received(answer[at : at + cut])
    assert ends == [int(answer[9:12])]


def test_a_broken_answer_is_reported() -> None:
    """A connection that ends under a request reports status 0; one that ends idle reports nothing."""
    ends: list[int] = []
    connection = Connection(lambda _, status: ends.append(status))
    connection.connection_made(_Wire())
    connection.send(b"request")
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
    connection.connection_lost(None)
    connection.connection_lost(None)
    assert ends == [0]


@pytest.mark.parametrize("size", [512, 1024, 32 * 1024])
def test_bodies_are_of_the_stated_size(size: int) -> None:
    """Every body is a valid chat of exactly that many bytes, each from another user."""
    made = bodies(size, users=3, stream=True)
    assert {len(body) for body in made} == {size}
    documents = [json.loads(body) for body in made]
    assert {document["model"] for document in documents} == {MODEL}
    assert len({document["user"] for document in documents}) == 3
    assert bodies(size, users=3, stream=True) == made


def test_a_body_that_does_not_fit_is_refused() -> None:
    """Rather than one of another size."""
    with pytest.raises(ValueError, match="does not fit"):
        bodies(100)
