"""What a request's body asks of the form of its answer: a JSON schema, any JSON object, calls of tools. Pure.

Fields have been checked (`gateway.api.grammars`), so whatever does not look like a schema asks for nothing.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.structured import ANY_OBJECT, Expected

FIELDS = frozenset({"response_format", "structured_outputs", "text", "output_config", "tools"})
"""A body without any of them asks for nothing."""


def expected(body: Mapping[str, Any]) -> Expected | None:
    """Return what the answer is checked against; None when it may say what it likes."""
    schema = _schema(body)
    tools = _tools(body.get("tools")) if body.get("tool_choice") != "none" else {}
    if schema is None and not tools:
        return None
    return Expected(schema, tools=tools or None)


def _schema(body: Mapping[str, Any]) -> Any:
    """Return the schema of the text; several are asked for at once by nobody, and the first one counts."""
    for holder in (
        body.get("response_format"),
        _inside(body.get("text"), "format"),
        _inside(body.get("output_config"), "format"),
    ):
        if isinstance(holder, dict) and (schema := _of_format(holder)) is not None:
            return schema
    outputs = body.get("structured_outputs")
    return _of_outputs(outputs) if isinstance(outputs, dict) else None


def _of_format(given: Mapping[str, Any]) -> Any:
    """Return the schema of a `response_format`, or of the `format` of the other two endpoints."""
    if given.get("type") == "json_object":
        return ANY_OBJECT
    if given.get("type") != "json_schema":
        return None
    inner = given.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else given.get("schema")
    return ANY_OBJECT if schema is None else schema


def _of_outputs(given: Mapping[str, Any]) -> Any:
    """Return the schema of vLLM's `structured_outputs`; patterns, choices and grammars are no JSON."""
    schema = given.get("json")
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            return None
    if schema is not None:
        return schema
    return ANY_OBJECT if given.get("json_object") else None


def _tools(given: Any) -> dict[str, Any]:
    """Return the schemas of functions' arguments by their names, in any of the three dialects."""
    found = {}
    for tool in given if isinstance(given, list) else ():
        if not isinstance(tool, dict):
            continue
        inner = tool.get("function")
        function = inner if isinstance(inner, dict) else tool
        name = function.get("name")
        schema = function.get("parameters", function.get("input_schema"))
        # A custom tool of the Responses API takes any text, one of Anthropic's has a schema like the others.
        if isinstance(name, str) and (tool.get("type") in ("function", None) or "input_schema" in tool):
            found[name] = ANY_OBJECT if schema is None else schema
    return found


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
