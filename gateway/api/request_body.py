"""The body of a request to an engine: read within limits, and parsed strictly."""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jiter
import orjson

from gateway.errors import InvalidRequest, Stalled, TooLarge, WrongMediaType

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_DUPLICATE = re.compile(r'Detected duplicate key (".*") at line \d+ column \d+', re.DOTALL)
_MAX_NAME_CHARS = 64


class ClientGone(Exception):
    """The client went away before its body was complete."""


async def read_body(
    receive: Receive, *, content_length: int | None, limit_bytes: int, timeout_s: float
) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: it is over the limit; the rest was not read.
        Stalled: it did not come in time.
        ClientGone: the client left.
    """
    if content_length is not None and content_length > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            body, more = await _piece(receive)
            if not more and len(body) <= limit_bytes:
                return body
            parts = [body]
            size = len(body)
            while more and size <= limit_bytes:
                body, more = await _piece(receive)
                size += len(body)
                parts.append(body)
    except TimeoutError:
        raise Stalled(f"the body did not arrive within {timeout_s:g} s") from None
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    return b"".join(parts)


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is over {limit_bytes} bytes")


def check_media_type(content_type: bytes | None, content_encoding: bytes | None) -> None:
    """Refuse what is not plain JSON.

    Raises:
        WrongMediaType: it is of another type, of none, or compressed.
    """
    if (content_type or b"").split(b";", 1)[0].strip().lower() != b"application/json":
        raise WrongMediaType("send the body as JSON, with 'Content-Type: application/json'")
    if content_encoding and content_encoding.strip().lower() != b"identity":
        raise WrongMediaType("send the body uncompressed")


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return the body as an object. Floats come as they were written (`jiter.LosslessFloat`).

    The parser refuses what JSON itself does not allow (NaN, comments, lone surrogates, a byte order mark),
    names that occur twice in one object, and nesting beyond 200 levels.

    Raises:
        InvalidRequest: it is not a JSON object, or an object in it has two fields of the same name.
    """
    try:
        body = jiter.from_json(
            raw,
            allow_inf_nan=False,
            cache_mode="keys",
            catch_duplicate_keys=True,
            float_mode="lossless-float",
        )
    except ValueError as error:
        raise _not_json(str(error)) from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return body


def _not_json(said: str) -> InvalidRequest:
    twice = _DUPLICATE.fullmatch(said)
    if twice is None:
        return InvalidRequest(f"the body is not valid JSON: {said}", code="invalid_json")
    try:
        name = str(json.loads(twice[1]))[:_MAX_NAME_CHARS]
    except ValueError:  # the parser shows names as its own language writes them
        name = twice[1][1:-1][:_MAX_NAME_CHARS]
    return InvalidRequest(
        f"the body names {name!r} more than once in one object", code="duplicate_field", param=name
    )


def to_json(body: Mapping[str, Any]) -> bytes:
    """Write a body that `parse_body` returned.

    Raises:
        InvalidRequest: it holds a number that 64 bits don't.
    """
    try:
        return orjson.dumps(body, default=_finite)
    except TypeError:
        raise InvalidRequest("a number in the body is beyond 64 bits", code="invalid_json") from None


def _finite(number: Any) -> float:
    """Return a float of the body; orjson would write one that is infinite as null."""
    if not isinstance(number, jiter.LosslessFloat):
        raise TypeError
    value = float(number)
    if not math.isfinite(value):
        raise TypeError
    return value
