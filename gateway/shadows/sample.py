"""A request that was answered and is to be answered once more: what is kept of it, what is sent. Pure."""

import time
from dataclasses import dataclass

import orjson

from gateway.core.requests import RequestRow
from gateway.upstream.shapes import Shape


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that a client has got the answer to: all that its replay needs.

    `row` is as it was recorded; its texts are here, cut and not redacted yet. `offered_at` is monotonic.
    """

    path: str
    payload: bytes
    shape: Shape
    shadow: str
    row: RequestRow
    prompt: str | None
    answer: str | None
    redacted: bool
    offered_at: float


def replayed(payload: bytes, *, engine_model: str, request_id: str) -> bytes:
    """Return what the engine gets: the same request to another version, answered in one piece."""
    body = orjson.loads(payload)
    body["model"] = engine_model
    body.pop("stream_options", None)
    if "stream" in body:
        body["stream"] = False
    if "request_id" in body:
        body["request_id"] = f"resp_{request_id}"
    return orjson.dumps(body)


def row_of(sample: Sample, request_id: str, generation: int) -> RequestRow:
    """Return the row of a replay, as far as it is known before it is sent."""
    first = sample.row
    return RequestRow(
        request_id,
        time.time(),
        first.endpoint,
        key_id=first.key_id,
        tenant=first.tenant,
        requested_model=sample.shadow,
        route=first.route,
        adapter=sample.shadow,
        generation=generation,
        internal=True,
    )
