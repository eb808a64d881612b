"""Messages of a chat as rows have them: checked, and what can't be trained refused with the reason."""

from typing import Any

from training.data.faults import Fault, kind_of
from training.data.rows import ROLES, Message

_SAME_ROLE = {"developer": "system"}
_OF_TOOLS = ("tool", "function")


def messages(value: Any, field: str, *, at_least: int = 1) -> list[Message]:
    """Return the messages that a field holds. A developer's message is a system message.

    Content may be a string or OpenAI's list of parts, as long as all of them are text.

    Raises:
        Fault: one of them can't be trained on.
    """
    if not isinstance(value, list) or len(value) < at_least:
        wanted = {1: "one message", 2: "two messages"}.get(at_least, f"{at_least} messages")
        raise Fault(f"field {field!r} must be a list of at least {wanted}")
    return [_message(message, f"field '{field}[{number}]'") for number, message in enumerate(value)]


def answer(value: Any, field: str) -> str:
    """Return the text of a field that holds one message of the assistant.

    Raises:
        Fault: it holds something else.
    """
    found = messages(value, field)
    if len(found) != 1 or found[0]["role"] != "assistant":
        raise Fault(f"field {field!r} must be one message of the assistant")
    return found[0]["content"].strip()


def split_answer(value: Any, field: str) -> tuple[tuple[Message, ...], str]:
    """Return the messages before the last one, and the last one's text, which is the assistant's.

    Raises:
        Fault: the last message is another's, or nothing stands before it.
    """
    *before, last = messages(value, field, at_least=2)
    if last["role"] != "assistant":
        raise Fault(f"field {field!r}: the last message must be the assistant's, after another one")
    if value[-1].get("weight") == 0:
        raise Fault(f"field {field!r}: the last message has weight 0, and it is the answer that is trained")
    return tuple(before), last["content"].strip()


def text(value: str, place: str) -> str:
    """Return a text, all of whose characters are whole.

    Raises:
        Fault: it holds half of one: a JSON escape of a surrogate without its other half.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Fault(
            f"{place} holds half a character (\\u{ord(value[error.start]):04x}) at {error.start + 1}"
        ) from error
    return value


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict):
        raise Fault(f"{place} is {kind_of(message)}, and must be an object with role and content")
    role, content = message.get("role"), message.get("content")
    role = _SAME_ROLE.get(role, role) if isinstance(role, str) else role
    if role in _OF_TOOLS or message.get("tool_calls") or message.get("function_call"):
        raise Fault(f"{place} is of a tool, and calls of tools are not trained here; leave the row out")
    if role not in ROLES:
        raise Fault(f"{place}: role is {role!r}, and must be one of {', '.join(ROLES)}")
    if isinstance(content, list):
        content = _joined(content, place)
    if not isinstance(content, str) or not content.strip():
        raise Fault(f"{place}: content must be a string that is not empty")
    return {"role": role, "content": text(content, place)}


def _joined(parts: list[Any], place: str) -> str:
    found: list[str] = []
    for number, part in enumerate(parts):
        said = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(said, str):
            kind = part.get("type") if isinstance(part, dict) else kind_of(part)
            raise Fault(f"{place}: part {number} is {kind}, and only text is trained")
        found.append(said)
    return "\n".join(found)
