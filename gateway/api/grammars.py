"""Bounds on what a request may ask an engine to compile into a grammar.

An engine compiles schemas, patterns and choices one after another for everybody: while it compiles a bad one,
every other request for structured output waits, and it goes on when the client has left. Its compiler copes
with nested repeats and with recursion. Two things it does not cope with (docs/api.md has the measurements):
size, since time grows with the square of the number of properties, and lengths, since each different length
of a string is compiled by itself.
"""

import re
from typing import Any

import orjson

from gateway.api.checks import Check, Refused, an_object, tools_of_kinds

MAX_GRAMMAR_BYTES = 16 * 1024
"""How large a schema, a grammar or a list of choices may be, written as JSON."""

MAX_LENGTHS = 512
"""The sum of the different lengths and repeats in one grammar, each counted up to LONG."""

LONG = 128
"""Where a longer length costs the compiler no more."""

MAX_TOOLS = 128

_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_STYLE = ("disable_any_whitespace", "disable_additional_properties")
_LENGTHS = ("maxLength", "minLength", "maxProperties", "minProperties")
_REPEAT = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")
_MAX_DIGITS = 6


def structured_outputs(value: Any) -> None:
    """Check vLLM's `structured_outputs`: known keys, bounded cost."""
    an_object(value)
    for name in value:
        if name not in _KINDS and name not in _STYLE:
            raise Refused(f"knows no {name[:64]!r} here", supported=name != "whitespace_pattern")
    schema = value.get("json")
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            raise Refused("holds a 'json' that is no JSON") from None
    _bounded({**value, "json": schema})


def response_format(value: Any) -> None:
    """Check OpenAI's `response_format`."""
    an_object(value)
    if len(value) > 1:
        _bounded(value)


def json_format(value: Any) -> None:
    """Check the `text` of a response or the `output_config` of a message: both may hold a schema."""
    an_object(value)
    if value.get("format") is not None:
        response_format(value["format"])


def tools(*kinds: str, otherwise: str) -> Check:
    """Return a check for tools of these kinds; a forced call makes a grammar of their schemas."""
    of_kinds = tools_of_kinds(kinds, otherwise)

    def check(value: Any) -> None:
        of_kinds(value)
        if len(value) > MAX_TOOLS:
            raise Refused(f"may hold at most {MAX_TOOLS} tools")
        for tool in value:
            _bounded(tool)

    return check


def _bounded(value: dict[str, Any]) -> None:
    try:
        size = len(orjson.dumps(value, default=str))
    except TypeError:
        raise Refused("is nested too deeply, or holds a number beyond 64 bits") from None
    if size > MAX_GRAMMAR_BYTES:
        raise Refused(f"may take at most {MAX_GRAMMAR_BYTES} bytes: the engine would compile it for too long")
    lengths: set[int | str] = set()
    _collect(value, lengths)
    if sum(_cost(length) for length in lengths) > MAX_LENGTHS:
        raise Refused(
            "asks for too many different lengths and repeats: the engine would compile each by itself; "
            f"their sum may be at most {MAX_LENGTHS}, and each counts for at most {LONG}"
        )


def _collect(value: Any, lengths: set[int | str]) -> None:
    """Collect the lengths of a schema, and the texts with repeats in it. Equal ones are compiled once."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in _LENGTHS and type(inner) is int:
                lengths.add(inner)
            else:
                _collect(inner, lengths)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, lengths)
    elif isinstance(value, str) and "{" in value:
        lengths.add(value)


def _cost(length: int | str) -> int:
    if isinstance(length, int):
        return min(max(length, 0), LONG)
    return sum(
        min(max(int(number[:_MAX_DIGITS] or 0) for number in repeat), LONG)
        for repeat in _REPEAT.findall(length)
    )
