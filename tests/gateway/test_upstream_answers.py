"""What clients hear of an engine's refusals."""

import json

import pytest

from gateway.upstream.answers import MAX_MESSAGE_CHARS, explain_refusal

NO_PARSER = (
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    'tool_choice="required" requires --tool-call-parser to be set',
    'tool_choice=function "weather" requires --tool-call-parser to be set',
)


@pytest.mark.parametrize("said", NO_PARSER)
@pytest.mark.parametrize("anthropic", [False, True])
def test_an_engine_without_a_tool_parser(said: str, *, anthropic: bool) -> None:
    """The client learns what it can do, and what the operator can, in settings that Turnout has."""
    error = {"type": "BadRequestError", "message": said}
    body = (
        {"type": "error", "error": error} if anthropic else {"error": {**error, "param": None, "code": 400}}
    )
    message, param = explain_refusal(json.dumps(body).encode())
    assert "tool_choice 'none'" in message
    assert "engine.extra_args" in message
    assert param is None


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"error": {"message": "too hot", "param": "temperature"}}, "too hot", "temperature"),
        ({"type": "error", "error": {"type": "BadRequestError", "message": "too hot"}}, "too hot", None),
        ({"error": {"message": "x" * 5000}}, "x" * MAX_MESSAGE_CHARS, None),
        ({"error": {"message": 3}}, "the engine refused the request", None),
        ([1], "the engine refused the request", None),
    ],
)
def test_what_is_passed_on(body: object, message: str, param: str | None) -> None:
    """Message and parameter pass, in the form of either dialect, and the message within a limit."""
    assert explain_refusal(json.dumps(body).encode()) == (message, param)
