"""What an engine says beside its answers: refusals in words for the client, its incarnation. Pure."""

from typing import Any

import orjson

MAX_MESSAGE_CHARS = 1000
INCARNATION = b"process_start_time_seconds"
_PLAIN = "the engine refused the request"
_NO_TOOLS = (
    "this engine was started without a parser for tool calls: send tool_choice 'none', or have its operator "
    "set engine.extra_args to --enable-auto-tool-choice and --tool-call-parser with a parser for its model"
)


def explain_refusal(body: bytes) -> tuple[str, str | None]:
    """Return message and parameter of a refusal in vLLM's form, or a plain sentence when it is of no form.

    Only refusals of the request itself come here (400, 413, 422): their text is about what the client sent.
    """
    error = _error_of(body)
    if not isinstance(error.get("message"), str):
        return _PLAIN, None
    param = error.get("param")
    message = _NO_TOOLS if "--tool-call-parser" in error["message"] else error["message"][:MAX_MESSAGE_CHARS]
    return message, param if isinstance(param, str) else None


def refusal_message(body: bytes) -> str:
    """Return a refusal's message, for programs; empty when it has none."""
    message = _error_of(body).get("message")
    return message if isinstance(message, str) else ""


def misses_model(body: bytes, model: str) -> bool:
    """Whether a 404 says that the engine does not know `model`; its other 404s are about other things."""
    message = refusal_message(body)
    return model in message and "does not exist" in message


def incarnation_of(metrics: bytes) -> str | None:
    """Return the start time of the engine's process as its `/metrics` writes it; None when it does not."""
    for line in metrics.split(b"\n"):
        if line.startswith(INCARNATION) and line[len(INCARNATION) :].lstrip(b"{}").startswith(b" "):
            return line.rsplit(b" ", 1)[1].decode("ascii", "replace").strip()
    return None


def _error_of(body: bytes) -> dict[str, Any]:
    """Return the object that holds the message: vLLM's `error`, or the body itself in older versions."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    return error if isinstance(error, dict) else {}
