"""Whether an answer is the JSON that its request asked for.

A request that asks for JSON, or hands tools to the model, leaves an `Expected` beside its row. The answer's
text is kept in it until the recorder's thread has looked, and is dropped there: nothing of it is stored.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.json_schema import TooMuch, fits

MAX_CHECKED_CHARS = 64 * 1024
"""Longer answers are not checked, and count neither way."""

CHARS_TO_CHECK = MAX_CHECKED_CHARS + 1
"""How much of an answer is kept until it is checked: it shows when it is longer."""

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


class Expected:
    """What one request expects of its answer, and as much of the answer as tells.

    `schema` is that of the text, None when only calls of `tools` (schemas of their arguments, by name) are
    expected. `text` and `calls` (names with arguments) are of the answer's first choice.
    """

    __slots__ = ("_verdict", "calls", "schema", "text", "tools")

    def __init__(self, schema: Any = None, *, tools: Mapping[str, Any] | None = None) -> None:
        self.schema = schema
        self.tools = tools
        self.text = ""
        self.calls: tuple[tuple[str, str], ...] = ()
        self._verdict: bool | None = None

    def take(self, text: str, calls: tuple[tuple[str, str], ...]) -> None:
        """Take the answer, in place of one that was taken before."""
        self.text = "" if self.schema is None else text
        self.calls = calls

    @property
    def chars(self) -> int:
        """How much text is held."""
        return len(self.text) + sum(len(arguments) for _, arguments in self.calls)

    def verdict(self, *, finish_reason: str | None) -> bool | None:
        """Return whether a complete answer (status 200) is what was asked for, and let go of its text.

        One that was cut off is not. None: nothing was asked of it, or that can't be said in bounded time.
        """
        if self.schema is not None or self.tools is not None:
            self._verdict = self._judge(cut=finish_reason == "length")
            self.drop()
        return self._verdict

    def drop(self) -> None:
        """Let go of the text and the schemas."""
        self.schema = self.tools = None
        self.text, self.calls = "", ()

    def _judge(self, *, cut: bool) -> bool | None:
        if self.schema is None and not self.calls:
            return None  # tools were offered, and none was called
        if cut:
            return False
        if self.chars > MAX_CHECKED_CHARS:
            return None
        try:
            if self.calls and (self.schema is None or not self.text.strip()):
                return all(self._called_well(name, arguments) for name, arguments in self.calls)
            return _is(self.text, self.schema)
        except TooMuch:
            return None

    def _called_well(self, name: str, arguments: str) -> bool:
        tools = self.tools or {}
        return name in tools and _is(arguments or "{}", tools[name])


def _is(text: str, schema: Any) -> bool:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return fits(value, schema)
