"""What a request says to the model, as text for its record. One function an endpoint, all pure.

The system's part is left out: it is the same in every request and would drown the rest. A single message
stands for itself; several are written as lines of `role: text`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

Body = Mapping[str, Any]

_SYSTEM = ("system", "developer")


def of_chat(body: Body, limit_chars: int) -> str:
    """Return the messages of a chat, or of Anthropic's messages, which have the same form."""
    return _said(body.get("messages"))[:limit_chars]


def of_completion(body: Body, limit_chars: int) -> str:
    """Return the prompt; several, or one of tokens, as JSON."""
    prompt = body.get("prompt")
    return (prompt if isinstance(prompt, str) else orjson.dumps(prompt, default=str).decode())[:limit_chars]


def of_response(body: Body, limit_chars: int) -> str:
    """Return the input: a text, or items that are messages in most cases."""
    given = body.get("input")
    return (given if isinstance(given, str) else _said(given))[:limit_chars]


def _said(messages: object) -> str:
    if not isinstance(messages, list):
        return ""
    said = [
        (str(message.get("role") or message.get("type")), _text_of(message))
        for message in messages
        if isinstance(message, dict) and message.get("role") not in _SYSTEM
    ]
    if len(said) == 1:
        return said[0][1]
    return "\n".join(f"{role}: {text}" for role, text in said)


def _text_of(message: Body) -> str:
    content = message.get("content", message.get("output"))  # a tool's result in a response's input
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))
