"""The body of a generation request: read within limits, parsed, checked, and made ready for the engine."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from gateway.errors import InvalidRequest, Stalled, TooLarge, WrongMediaType

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

REFUSED_FIELDS: Mapping[str, str] = {
    "cache_salt": "the gateway sets it, to keep tenants' prefix caches apart",
    "priority": "the gateway sets it",
    "request_id": "the gateway sets it; send your own as the header x-request-id",
    "kv_transfer_params": "it steers the engine's own memory",
    "prompt_logprobs": "it stops the engine when adapters share its batch",
}
_PROMPT_LOGPROBS = "echo together with log-probabilities asks for prompt_logprobs, which stops the engine"


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
    """Return the body as an object, with the fields refused that the gateway sets or the engine can't bear.

    Raises:
        InvalidRequest: it is not a JSON object, or a field is refused; the message says why.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    if raw.count(b'"model"') > 1 and _names_model_twice(raw):
        raise InvalidRequest("the body names 'model' more than once", code="duplicate_field", param="model")
    for name, reason in REFUSED_FIELDS.items():
        if body.get(name) is not None:
            raise InvalidRequest(
                f"{name!r} can't be set here: {reason}", code="unsupported_parameter", param=name
            )
    if body.get("echo") and (body.get("logprobs") or body.get("top_logprobs")):
        raise InvalidRequest(_PROMPT_LOGPROBS, code="unsupported_parameter", param="echo")
    return body


def _names_model_twice(raw: bytes) -> bool:
    outermost: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = pairs  # called for the innermost object first, so the last call is the outermost

    try:
        json.loads(raw, object_pairs_hook=keep)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply", code="invalid_json") from None
    return sum(name == "model" for name, _ in outermost) > 1


def streams(body: Mapping[str, Any]) -> bool:
    """Return whether a stream is asked for.

    Raises:
        InvalidRequest: `stream` is not a bool.
    """
    stream = body.get("stream")
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise InvalidRequest("'stream' must be true or false", param="stream")


def payload_for_engine(body: dict[str, Any], *, engine_model: str, stream: bool) -> tuple[bytes, bool]:
    """Return what the engine gets, and whether the usage event is to be hidden from the client.

    `body` is changed: the version that was resolved takes the place of the requested model, and streams
    always report usage.

    Raises:
        InvalidRequest: `stream_options` is not an object.
    """
    body["model"] = engine_model
    hide_usage = False
    if stream:
        options = body.get("stream_options") or {}
        if not isinstance(options, dict):
            raise InvalidRequest("'stream_options' must be an object", param="stream_options")
        hide_usage = options.get("include_usage") is not True
        # Per-chunk usage only comes with include_usage, for which this client did not ask.
        extra = {"continuous_usage_stats": False} if hide_usage else {}
        body["stream_options"] = {**options, **extra, "include_usage": True}
    return orjson.dumps(body), hide_usage


def prompt_text(body: Mapping[str, Any], limit_chars: int) -> str:
    """Return a prompt as text for the record, at most `limit_chars` long.

    Of a chat, the system's messages are left out: they are the same in every request and would drown the
    rest. A single message stands for itself; several are written as lines of `role: text`.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        prompt = body.get("prompt")
        return (prompt if isinstance(prompt, str) else orjson.dumps(prompt).decode())[:limit_chars]
    said = [
        (str(message.get("role")), _content_text(message.get("content")))
        for message in messages
        if isinstance(message, dict) and message.get("role") not in ("system", "developer")
    ]
    if len(said) == 1:
        return said[0][1][:limit_chars]
    return "\n".join(f"{role}: {text}" for role, text in said)[:limit_chars]


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))
