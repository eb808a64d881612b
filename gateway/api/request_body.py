"""The body of a request to an engine, parsed strictly."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jiter
import orjson

from gateway.errors import InvalidRequest, Stalled, TooLarge, WrongMediaType

_DUPLICATE = re.compile(r'Detected duplicate key (".*") at line \d+ column \d+', re.DOTALL)
_MAX_NAME_CHARS = 64


class ClientGone(Exception):
    """The client went away before its body was complete."""


def too_large(limit_bytes: int) -> TooLarge:
    """Return the error of a body that is over the limit."""
    return TooLarge(f"the body is over {limit_bytes} bytes")


def stalled(timeout_s: float) -> Stalled:
    """Return the error of a body that did not come in time."""
    return Stalled(f"the body did not arrive within {timeout_s:g} s")


def repeated_header(name: str) -> InvalidRequest:
    """Return the error of a header that stands there more than once."""
    return InvalidRequest(f"send the header {name!r} once", code="repeated_header", param=name)


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
