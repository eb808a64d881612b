"""Structured output: what requests ask for, and whether answers are that."""

from typing import Any

import pytest

from gateway.api.formats import FIELDS, expected
from gateway.core.structured import ANY_OBJECT, MAX_CHECKED_CHARS, Expected

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
NAMED = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}

BODIES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"messages": []}, None, None),
    ({"response_format": {"type": "text"}}, None, None),
    ({"response_format": None, "tools": None, "text": None}, None, None),
    ({"response_format": {"type": "json_object"}}, ANY_OBJECT, None),
    ({"response_format": NAMED}, SCHEMA, None),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, ANY_OBJECT, None),
    ({"response_format": {"type": "structural_tag", "structures": []}}, None, None),
    ({"structured_outputs": {"json": SCHEMA}}, SCHEMA, None),
    ({"structured_outputs": {"json": '{"type": "array"}'}}, {"type": "array"}, None),
    ({"structured_outputs": {"json_object": True}}, ANY_OBJECT, None),
    ({"structured_outputs": {"regex": "a+"}}, None, None),
    ({"structured_outputs": {"choice": ["a"]}}, None, None),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}}, SCHEMA, None),
    ({"text": {"verbosity": "low"}}, None, None),
    ({"text": {"format": {"type": "json_object"}}}, ANY_OBJECT, None),
    ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, SCHEMA, None),
    ({"tools": [FUNCTION]}, None, {"f": SCHEMA}),
    ({"tools": [FUNCTION], "tool_choice": "none"}, None, None),
    ({"tools": [{"type": "function", "name": "g", "parameters": None}]}, None, {"g": ANY_OBJECT}),
    ({"tools": [{"name": "h", "input_schema": SCHEMA}]}, None, {"h": SCHEMA}),
    ({"tools": [{"type": "custom", "name": "h", "input_schema": SCHEMA}]}, None, {"h": SCHEMA}),
    ({"tools": [{"type": "custom", "name": "free"}]}, None, None),
    ({"tools": [FUNCTION], "response_format": NAMED}, SCHEMA, {"f": SCHEMA}),
]


@pytest.mark.parametrize(("body", "schema", "tools"), BODIES)
def test_what_a_request_asks_for(body: dict[str, Any], schema: Any, tools: Any) -> None:
    """JSON by any of the endpoints' fields, calls of functions, or nothing."""
    found = expected(body)
    assert (found and found.schema, found and found.tools) == (schema, tools)
    assert found is None or not FIELDS.isdisjoint(body)


ANSWERS: list[tuple[str, tuple[tuple[str, str], ...], str, bool | None]] = [
    ('{"a": 1}', (), "stop", True),
    (' {"a": 1}\n', (), "stop", True),
    ('{"a": "1"}', (), "stop", False),
    ("```json\n{}\n```", (), "stop", False),
    ("", (), "stop", False),
    ('{"a": NaN}', (), "stop", False),
    # Cut off is not what was asked for, whatever is left.
    ('{"a": 1', (), "length", False),
    ('{"a": 1}', (), "length", False),
    ("[" * 5000, (), "stop", False),
    (" " * (MAX_CHECKED_CHARS + 1), (), "stop", None),
    # A tool was called instead.
    ("", (("f", '{"a": 1}'),), "tool_calls", True),
    ("", (("f", '{"a": 1}'), ("f", "{}")), "tool_calls", False),
    ("", (("other", '{"a": 1}'),), "tool_calls", False),
    ('{"a": 1}', (("f", "broken"),), "tool_calls", True),
]


@pytest.mark.parametrize(("text", "calls", "reason", "verdict"), ANSWERS)
def test_whether_an_answer_is_that(
    text: str, calls: tuple[tuple[str, str], ...], reason: str, verdict: bool | None
) -> None:
    """The whole text is JSON of the schema; asked again it says the same, and has let go of the text."""
    wanted = Expected(SCHEMA, tools={"f": SCHEMA})
    wanted.take(text, calls)
    assert [wanted.verdict(finish_reason=reason) for _ in range(2)] == [verdict, verdict]
    assert (wanted.chars, wanted.schema, wanted.tools) == (0, None, None)


@pytest.mark.parametrize(
    ("calls", "reason", "verdict"),
    [
        ((), "stop", None),
        ((), "length", None),
        ((("f", '{"a": 1}'),), "tool_calls", True),
        ((("f", ""),), "tool_calls", False),
        ((("f", '{"a": 1}'),), "length", False),
    ],
)
def test_tools_that_are_offered(
    calls: tuple[tuple[str, str], ...], reason: str, verdict: bool | None
) -> None:
    """Where tools are all that is given, only answers that call one count, and no text is kept."""
    wanted = Expected(tools={"f": SCHEMA})
    wanted.take("some words", calls)
    assert wanted.text == ""
    assert wanted.verdict(finish_reason=reason) is verdict


def test_what_takes_too_long_counts_neither_way() -> None:
    """A schema that would be looked at for ever gives no verdict."""
    wanted = Expected({"$ref": "#"})
    wanted.take("1", ())
    assert wanted.verdict(finish_reason="stop") is None
