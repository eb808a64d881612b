"""The two dialects of errors and authentication: OpenAI's, and Anthropic's on `/v1/messages` and below it.

An error keeps its status in both, so that a row, a metric and a client tell the same story; what differs is
the body, the event that ends a broken stream, and the header that carries the key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from starlette.requests import Request

from gateway.api.limit_headers import anthropic_lines, openai_lines
from gateway.errors import TurnoutError
from gateway.limits.limiter import Standing

ANTHROPIC_PREFIX = "/v1/messages"
ANTHROPIC_VERSION = "anthropic-version"
"""The header by which Anthropic's clients show themselves on `/v1/models`, which both families have."""

_MODELS = "/v1/models"
_SEQUENCE_NUMBER = re.compile(rb'"sequence_number":\s?(\d+)')
# https://docs.anthropic.com/en/api/errors; 529 is Anthropic's own status, which no proxy knows: we say 503.
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Dialect(Protocol):
    """How one family of endpoints is spoken to."""

    def credential(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return what the client shows of itself, as an `Authorization` header would carry it."""

    def body(self, error: TurnoutError) -> dict[str, Any]:
        """Return the body of an error."""

    def event(self, error: TurnoutError, last: bytes) -> bytes:
        """Return the event that ends a stream with an error; `last` is what was sent before it."""

    def lines(self, request_id: str) -> bytes:
        """Return the header lines that this dialect adds to every answer."""

    def limit_lines(self, name: str, standing: Standing) -> bytes:
        """Return the header lines that tell of a limit of `requests` or `tokens`."""


@dataclass(frozen=True, slots=True)
class OpenAI:
    """Chat and text completions, and every path that is not Anthropic's."""

    def credential(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the Authorization header."""
        return _text(headers.get(b"authorization"))

    def body(self, error: TurnoutError) -> dict[str, Any]:
        """Return `{"error": {...}}`."""
        return error.body()

    def event(self, error: TurnoutError, last: bytes) -> bytes:  # noqa: ARG002 - the others need it
        """Return an event without a name, as the chat endpoint's are. No [DONE] follows it."""
        return b"data: " + orjson.dumps(self.body(error)) + b"\n\n"

    def lines(self, request_id: str) -> bytes:  # noqa: ARG002
        """Return none: `x-request-id` is OpenAI's too."""
        return b""

    def limit_lines(self, name: str, standing: Standing) -> bytes:
        """Return OpenAI's."""
        return openai_lines(name, standing)


@dataclass(frozen=True, slots=True)
class Responses(OpenAI):
    """OpenAI's `/v1/responses`: as the others, but its events have names and numbers."""

    def event(self, error: TurnoutError, last: bytes) -> bytes:
        """Return an `error` event, numbered after the last one.

        The reference documents its fields at the top level; the official client raises on an `error` object.
        Both are there.
        """
        numbers = _SEQUENCE_NUMBER.findall(last)
        told = error.body()["error"]
        event = {
            "type": "error",
            "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
            "code": told["code"],
            "message": told["message"],
            "param": told["param"],
            "error": told,
        }
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Anthropic:
    """`/v1/messages` and what is below it."""

    def credential(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the key of `x-api-key`, else the Authorization header."""
        key = headers.get(b"x-api-key")
        return _text(headers.get(b"authorization")) if key is None else f"Bearer {_text(key)}"

    def body(self, error: TurnoutError) -> dict[str, Any]:
        """Return `{"type": "error", "error": {"type", "message"}}`."""
        fallback = "api_error" if error.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(error.status, fallback)
        return {"type": "error", "error": {"type": kind, "message": error.message}}

    def event(self, error: TurnoutError, last: bytes) -> bytes:  # noqa: ARG002
        """Return an `error` event. No `message_stop` follows it."""
        return b"event: error\ndata: " + orjson.dumps(self.body(error)) + b"\n\n"

    def lines(self, request_id: str) -> bytes:
        """Return `request-id`, which Anthropic's clients show in their errors."""
        return b"request-id: %b\r\n" % request_id.encode()

    def limit_lines(self, name: str, standing: Standing) -> bytes:
        """Return Anthropic's."""
        return anthropic_lines(name, standing)


OPENAI = OpenAI()
RESPONSES = Responses()
ANTHROPIC = Anthropic()


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path that is no endpoint of ours or was called with a wrong method."""
    below = path.startswith(ANTHROPIC_PREFIX + "/")
    return ANTHROPIC if below or path == ANTHROPIC_PREFIX else OPENAI


def dialect_of_request(request: Request) -> Dialect:
    """Return the dialect of a request beside the hot path."""
    path = request.url.path
    if (path == _MODELS or path.startswith(_MODELS + "/")) and ANTHROPIC_VERSION in request.headers:
        return ANTHROPIC
    return dialect_of(path)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
