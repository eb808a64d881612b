"""Checks of single fields of a request. Each is handed the value and raises `Refused` with the reason.

They look at what routing and safety need, and leave the rest to the engine, whose own checks are thorough:
wrong types there are a 400 too. A field that is null counts as not given; no check sees it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Check = Callable[[Any], None]

MAX_CONTENT_DEPTH = 8


class Refused(Exception):
    """A value is refused. `supported` is False where no value of this kind would be taken."""

    def __init__(self, reason: str, *, supported: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.supported = supported


def integer(low: int, high: int) -> Check:
    """Return a check for a whole number within bounds."""

    def check(value: Any) -> None:
        if type(value) is not int:
            raise Refused("must be a whole number")
        if not low <= value <= high:
            raise Refused(f"must be between {low} and {high}")

    return check


def flag(value: Any) -> None:
    """Check that it is true or false."""
    if not isinstance(value, bool):
        raise Refused("must be true or false")


def text(value: Any) -> None:
    """Check that it is a string."""
    if not isinstance(value, str):
        raise Refused("must be a string")


def an_object(value: Any) -> None:
    """Check that it is an object."""
    if not isinstance(value, dict):
        raise Refused("must be an object")


def only(allowed: Any, reason: str) -> Check:
    """Return a check that lets one value pass: the one that asks for nothing."""

    def check(value: Any) -> None:
        if type(value) is not type(allowed) or value != allowed:
            raise Refused(reason, supported=False)

    return check


def never(reason: str) -> Check:
    """Return a check that refuses every value."""

    def check(value: Any) -> None:  # noqa: ARG001
        raise Refused(reason, supported=False)

    return check


def strings(*, most: int, most_chars: int) -> Check:
    """Return a check for one string or a list of them, bounded in number and in length altogether."""

    def check(value: Any) -> None:
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
            raise Refused("must be a string or a list of strings")
        if len(several) > most:
            raise Refused(f"may hold at most {most} strings")
        if sum(map(len, several)) > most_chars:
            raise Refused(f"may hold at most {most_chars} characters")

    return check


def items(most: int) -> Check:
    """Return a check for a list or an object of at most so many entries."""

    def check(value: Any) -> None:
        if not isinstance(value, list | dict):
            raise Refused("must be a list or an object")
        if len(value) > most:
            raise Refused(f"may have at most {most} entries")

    return check


# --- what is said to the model -----------------------------------------------------------------------

# Parts that the engine would fetch from an address, and those that it would decode into tensors.
_ADDRESSES = ("image_url", "video_url", "audio_url", "file_url", "url")
_TENSORS = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil")
_FETCH = "media is taken inline, as a data: URL; the engine would fetch this address from inside its network"
_NESTED = ("content", "output", "source", "outputs")


def messages(value: Any) -> None:
    """Check a list of messages: objects, and no part of their content makes the engine fetch or decode."""
    if not isinstance(value, list):
        raise Refused("must be a list of messages")
    for message in value:
        if not isinstance(message, dict):
            raise Refused("must be a list of objects")
        if not isinstance(message.get("content"), str):
            _content(message, 0)


def content(value: Any) -> None:
    """Check what is a string or a list of items, such as a system prompt or the input of a response."""
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise Refused("must be a string or a list")
    for item in value:
        if isinstance(item, dict):
            _content(item, 0)


def _content(part: Mapping[str, Any], depth: int) -> None:
    """Check a part of a content and what is nested in it. A tool's arguments are data, and not looked at."""
    if depth > MAX_CONTENT_DEPTH:
        raise Refused("is nested too deeply")
    _part(part)
    for name in _NESTED:
        inner = part.get(name)
        for one in (inner,) if isinstance(inner, dict) else inner if isinstance(inner, list) else ():
            if isinstance(one, dict):
                _content(one, depth + 1)


def _part(part: Mapping[str, Any]) -> None:
    for name in _TENSORS:
        if name in part or part.get("type") == name:
            raise Refused(f"{name!r} is refused: the engine would decode a client's tensors", supported=False)
    if part.get("uuid") is not None:
        raise Refused(
            "'uuid' is refused: it names an entry of a cache that all tenants share", supported=False
        )
    for name in _ADDRESSES:
        address = part.get(name)
        if isinstance(address, dict):
            address = address.get("url")
        if isinstance(address, str) and not address.startswith("data:"):
            raise Refused(_FETCH, supported=False)


# --- templates, tools, grammars ------------------------------------------------------------------------

_TEMPLATE_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "processor_kwargs",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


def template_arguments(value: Any) -> None:
    """Check `chat_template_kwargs`: switches of the model's own template, none of the renderer's."""
    an_object(value)
    for name, argument in value.items():
        if name in _TEMPLATE_ARGUMENTS:
            raise Refused(f"{name!r} steers the renderer, not the template", supported=False)
        if isinstance(argument, list | dict):
            raise Refused(f"{name!r} must be a string, a number or a bool")


def tools_of_kinds(kinds: Iterable[str], reason: str) -> Check:
    """Return a check for a list of tools of these types; a tool without a type is of the first kind."""
    known = frozenset(kinds)

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Refused("must be a list of tools")
        for tool in value:
            if not isinstance(tool, dict):
                raise Refused("must be a list of objects")
            kind = tool.get("type")
            if kind is not None and kind not in known:
                raise Refused(f"the tool type {str(kind)[:64]!r} {reason}", supported=False)

    return check
