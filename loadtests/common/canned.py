"""A canned engine: answers and streams in vLLM's words at next to no cost, so that a proxy's cost shows.

    python -m loadtests.common.canned --port 0 --core 0      # prints its address

Every body gets the same answer; of a request only `model`, `stream`, `max_tokens` and `include_usage` are
read. A stream has one event a token, each written by itself and on time (`--gap-ms`), so that none of
them coalesce; its text is the moment at which it was written, in microseconds of the monotonic clock, by
which a client on the same machine can tell how long an event was under way. `GET /stats` counts.
"""

import argparse
import asyncio
import json
import random
import re
import time
from typing import cast

import uvloop

from loadtests.common.machine import pin

BASE_MODEL = "bench"
CREATED = 1_700_000_000
PROMPT_TOKENS = 220
CLOCK_WRAP_US = 10**10
"""Times in events have ten digits, so that every event is of the same length."""

DEFAULT_TOKENS = 16
_LENGTH = re.compile(rb"content-length:[ \t]*(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model"[ \t]*:[ \t]*"([^"]*)"')
_MAX_TOKENS = re.compile(rb'"max_(?:completion_)?tokens"[ \t]*:[ \t]*(\d+)')
_STREAM = re.compile(rb'"stream"[ \t]*:[ \t]*true')
_USAGE = re.compile(rb'"include_usage"[ \t]*:[ \t]*true')
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_TEXT = (
    "The deploy of 14:05 raised the error rate to 3 %. Roll back to build 2231, then look at the connection "
    "pool of the payment service: its limit was halved in the same change."
)


class Stats:
    """What the engine did. `open_streams` is a level, the others are counts."""

    def __init__(self) -> None:
        self.received = 0
        self.answered = 0
        self.open_streams = 0
        self.aborted_streams = 0


class Engine(asyncio.Protocol):
    """One connection: requests one after another, each answered from templates."""

    def __init__(self, stats: Stats, templates: "Templates", *, gap_s: float) -> None:
        self._stats = stats
        self._templates = templates
        self._gap_s = gap_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._wanted = 0
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """End the stream under way."""
        self._transport = None
        if self._stream is not None:
            self._stream.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        data = self._rest + data if self._rest else data
        while data:
            if len(data) < self._wanted:
                break
            head_end = data.find(b"\r\n\r\n")
            if head_end < 0:
                break
            found = _LENGTH.search(data, 0, head_end)
            end = head_end + 4 + (int(found[1]) if found else 0)
            if len(data) < end:
                self._wanted = end
                break
            self._wanted = 0
            self._serve(data[: head_end + 4], data[head_end + 4 : end])
            data = data[end:]
        self._rest = data

    def _serve(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - data comes after connection_made
        if head.startswith(b"POST"):
            self._stats.received += 1
            model = found[1] if (found := _MODEL.search(body)) else BASE_MODEL.encode()
            if _STREAM.search(body):
                self._begin_stream(model, body)
            else:
                self._stats.answered += 1
                self._transport.write(self._templates.whole(model, self._stats.received))
            return
        self._transport.write(self._templates.document(head.split(b" ", 2)[1], self._stats))

    def _begin_stream(self, model: bytes, body: bytes) -> None:
        found = _MAX_TOKENS.search(body)
        events = self._templates.events(model, self._stats.received)
        self._stream = _Stream(
            self, events, tokens=int(found[1]) if found else DEFAULT_TOKENS, usage=bool(_USAGE.search(body))
        )
        self._stats.open_streams += 1
        self._stream.begin(self._loop, self._gap_s)

    def write(self, data: bytes) -> None:
        """Write, if the connection is still there."""
        if self._transport is not None:
            self._transport.write(data)

    def end_stream(self, *, complete: bool) -> None:
        """Count a stream's end."""
        self._stream = None
        self._stats.open_streams -= 1
        if complete:
            self._stats.answered += 1
        else:
            self._stats.aborted_streams += 1


class _Stream:
    """One answer on the clock. Times are absolute, so that being late once is not being late for ever."""

    def __init__(self, engine: Engine, events: "Events", *, tokens: int, usage: bool) -> None:
        self._engine = engine
        self._events = events
        self._tokens = tokens
        self._usage = usage
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, gap_s: float) -> None:
        """Send the head and the first event; the tokens follow, spread over the gap against other streams."""
        self._loop, self._gap_s = loop, gap_s
        self._began = loop.time() + gap_s * random.random()
        self._engine.write(_STREAM_HEAD + _chunk(self._events.first))
        self._timer = loop.call_at(self._began, self._token)

    def _token(self) -> None:
        self._sent += 1
        now_us = time.monotonic_ns() // 1000 % CLOCK_WRAP_US
        last = self._sent == self._tokens
        self._engine.write(_chunk((self._events.last if last else self._events.token) % now_us))
        if not last:
            self._timer = self._loop.call_at(self._began + self._sent * self._gap_s, self._token)
            return
        self._timer = None
        if self._usage:
            self._engine.write(_chunk(self._events.usage % (self._tokens, PROMPT_TOKENS + self._tokens)))
        self._engine.write(_chunk(b"data: [DONE]\n\n"))
        self._engine.write(b"0\r\n\r\n")
        self._engine.end_stream(complete=True)

    def abort(self) -> None:
        """Stop: nobody listens any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._engine.end_stream(complete=False)


class Events:
    """The events of one stream; `token`, `last` and `usage` have places for numbers."""

    __slots__ = ("first", "last", "token", "usage")

    def __init__(self, model: bytes, number: int) -> None:
        head = (
            b'data: {"id":"chatcmpl-%032x","object":"chat.completion.chunk","created":%d,"model":"%s",'
            b'"choices":[' % (number, CREATED, model)
        )
        choice = head + b'{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}]}\n\n'
        token = b'"content":" %010d"'
        self.first = choice % (b'"role":"assistant","content":""', b"null")
        self.token = choice % (token, b'null,"token_ids":null')
        self.last = choice % (token, b'"stop","stop_reason":null,"token_ids":null')
        self.usage = (
            head + b'],"usage":{"prompt_tokens":%d,"completion_tokens":%%d,"total_tokens":%%d}}\n\n'
        ) % PROMPT_TOKENS


class Templates:
    """Answers by model, made once."""

    def __init__(self) -> None:
        self._whole: dict[bytes, tuple[bytes, bytes]] = {}

    def whole(self, model: bytes, number: int) -> bytes:
        """Return a whole answer, with an id of its own."""
        parts = self._whole.get(model)
        if parts is None:
            parts = self._whole[model] = _whole_parts(model)
        return b"%s%032x%s" % (parts[0], number, parts[1])

    def events(self, model: bytes, number: int) -> Events:
        """Return the events of a stream."""
        return Events(model, number)

    def document(self, path: bytes, stats: Stats) -> bytes:
        """Return what a GET gets; routers ask an engine for its health, its models and its settings."""
        if path.startswith(b"/stats"):
            document: dict[str, object] = dict(vars(stats))
        elif path.startswith(b"/v1/models"):
            document = {"object": "list", "data": [{"id": BASE_MODEL, "object": "model", "owned_by": "vllm"}]}
        else:
            document = {
                "model_path": BASE_MODEL,
                "served_model_name": BASE_MODEL,
                "tokenizer_path": "",
                "tp_size": 1,
            }
        body = json.dumps(document).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


def _whole_parts(model: bytes) -> tuple[bytes, bytes]:
    body = {
        "id": "chatcmpl-",
        "object": "chat.completion",
        "created": CREATED,
        "model": model.decode(),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT, "refusal": None, "annotations": None,
                            "audio": None, "function_call": None, "reasoning": None},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "total_tokens": PROMPT_TOKENS + 38,
            "completion_tokens": 38,
            "prompt_tokens_details": None,
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }  # fmt: skip
    before, after = json.dumps(body, separators=(",", ":")).encode().split(b"chatcmpl-", 1)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
        len(before) + len(b"chatcmpl-") + 32 + len(after)
    )
    return head + before + b"chatcmpl-", after


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int, *, gap_s: float) -> None:
    """Serve on loopback until cancelled; print the address once."""
    stats, templates = Stats(), Templates()
    server = await asyncio.get_running_loop().create_server(
        lambda: Engine(stats, templates, gap_s=gap_s), "127.0.0.1", port, backlog=2048
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run one canned engine as a process of its own."""
    parser = argparse.ArgumentParser(description="A canned engine for benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    uvloop.run(serve(options.port, gap_s=options.gap_ms / 1000))


if __name__ == "__main__":
    main()
