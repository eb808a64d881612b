"""Which fields a request may have: the official clients' all, what endangers others none."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import fields
from gateway.api.endpoints import ENDPOINTS
from gateway.api.fields import check_fields, check_sequences
from gateway.api.request_body import parse_body
from gateway.errors import InvalidRequest

BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO = [{"role": "user", "content": "hello"}]


def refusal(path: str, body: Mapping[str, Any]) -> InvalidRequest:
    """The refusal of a body that must be refused."""
    with pytest.raises(InvalidRequest) as refused:
        BY_PATH[path].check(dict(body))
    return refused.value


ALLOWED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO}),
    (CHAT, {"messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 20, "seed": -1, "stop": ["a", "b"]}),
    (CHAT, {"messages": HELLO, "store": False, "modalities": ["text"], "metadata": {"a": "b"}, "user": "u"}),
    (CHAT, {"messages": HELLO, "store": None, "functions": None, "prompt_logprobs": None, "n": None}),
    (
        CHAT,
        {
            "messages": HELLO,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "auto",
        },
    ),
    (CHAT, {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
    (CHAT, {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}, "priority": 0}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "see http://x/"}]}]}),
    (
        CHAT,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            ]
        },
    ),
    (TEXT, {"prompt": "once", "echo": True, "max_tokens": 0, "best_of": 1, "suffix": None}),
    (TEXT, {"prompt": [1, 2, 3] * 1000, "n": 128}),
    (TEXT, {"prompt": ["a"] * 64, "n": 2, "logprobs": 0}),
    (TEXT, {"prompt": "x", "structured_outputs": {"regex": "[ab]+"}}),
    (TEXT, {"prompt": "x", "structured_outputs": {"json": {"maxLength": 500, "items": {"maxLength": 500}}}}),
    (TEXT, {"prompt": "x", "structured_outputs": {"json": '{"type": "string", "maxLength": 100000}'}}),
    (RESPONSES, {"input": "hello", "store": False, "background": False, "instructions": "be short"}),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
    (RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {}}]}),
    (RESPONSES, {"input": "x", "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}),
    (MESSAGES, {"messages": HELLO, "max_tokens": 4, "system": "short", "metadata": {"user_id": "u"}}),
    (
        MESSAGES,
        {"messages": HELLO, "max_tokens": 4, "tools": [{"name": "f", "input_schema": {}}], "thinking": {}},
    ),
    (
        MESSAGES,
        {
            "max_tokens": 4,
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "input": {"image_url": "http://x/"}}]},
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "A"}}]},
            ],
        },
    ),
    (COUNT, {"messages": HELLO, "system": [{"type": "text", "text": "x", "cache_control": {}}]}),
    ("/tokenize", {"prompt": "x", "return_token_strs": True}),
    ("/tokenize", {"messages": HELLO, "add_generation_prompt": False}),
    ("/detokenize", {"tokens": [1]}),
]


@pytest.mark.parametrize(("path", "body"), ALLOWED)
def test_what_is_allowed(path: str, body: dict[str, Any]) -> None:
    """Ordinary requests of every endpoint pass, null where a field is not given included."""
    given_fields = {name: value for name, value in body.items() if value is not None}
    checked = {"model": "support", **body}
    assert BY_PATH[path].check(checked) is False
    assert given_fields.items() <= checked.items()


def part(**fields_: Any) -> dict[str, Any]:
    """A chat with one part of content."""
    return {"messages": [{"role": "user", "content": [fields_]}]}


def blocks(*parts: Any) -> dict[str, Any]:
    """A message of blocks."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


WIDE = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}}
LONG = {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": 200 + i} for i in range(5)}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # What the gateway sets itself, on every endpoint that has it.
    *[
        (path, {name: value}, name)
        for path in (CHAT, TEXT, RESPONSES, MESSAGES)
        for name, value in [
            ("cache_salt", "x"),
            ("priority", 1),
            ("priority", False),
            ("request_id", "x"),
            ("kv_transfer_params", {}),
            ("ec_transfer_params", {}),
            ("vllm_xargs", {}),
            ("mm_processor_kwargs", {}),
            ("media_io_kwargs", {}),
            ("session_id", "x"),
            ("watermarking", False),
        ]
    ],
    # What stops the engine, or makes it run what a client wrote.
    (CHAT, {"prompt_logprobs": 0}, "prompt_logprobs"),
    (CHAT, {"echo": True}, "echo"),
    (TEXT, {"prompt_logprobs": 1}, "prompt_logprobs"),
    (TEXT, {"echo": True, "logprobs": 0}, "echo"),
    (TEXT, {"echo": True, "logprobs": 2}, "echo"),
    (TEXT, {"prompt_embeds": "AAAA"}, "prompt_embeds"),
    (CHAT, {"chat_template": "{{ 1 }}"}, "chat_template"),
    ("/tokenize", {"chat_template": "{{ 1 }}"}, "chat_template"),
    (CHAT, {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"x": [1]}}, "chat_template_kwargs"),
    (CHAT, {"logits_processors": ["x"]}, "logits_processors"),
    (CHAT, {"guided_decoding_backend": "x"}, "guided_decoding_backend"),
    (CHAT, {"guided_json": {}}, "guided_json"),
    (CHAT, {"use_beam_search": True}, "use_beam_search"),
    # What it would fetch, decode, or share.
    (CHAT, part(type="image_url", image_url={"url": "http://169.254.169.254/"}), "messages"),
    (CHAT, part(type="image_url", image_url="https://x/"), "messages"),
    (CHAT, part(image_url="file:///etc/passwd"), "messages"),
    (CHAT, part(type="video_url", video_url={"url": "ftp://x"}), "messages"),
    (CHAT, part(type="audio_url", audio_url={"url": "HTTP://x"}), "messages"),
    (CHAT, part(type="image_embeds", image_embeds="AAAA"), "messages"),
    (CHAT, part(type="prompt_embeds", data="AAAA"), "messages"),
    (CHAT, part(type="image_url", image_url=None, uuid="shared"), "messages"),
    (MESSAGES, blocks(IMAGE), "messages"),
    (MESSAGES, blocks({"type": "tool_result", "content": [IMAGE]}), "messages"),
    (MESSAGES, {"system": [IMAGE]}, "system"),
    (COUNT, blocks(IMAGE), "messages"),
    ("/tokenize", part(type="image_url", image_url="https://x/"), "messages"),
    (RESPONSES, {"input": [{"content": [{"type": "input_image", "image_url": "http://x"}]}]}, "input"),
    (
        RESPONSES,
        {"input": [{"type": "function_call_output", "output": [{"image_url": "http://x"}]}]},
        "input",
    ),
    (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_url": "http://x"}]}]}, "input"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_url": "http://x"}]}, "tools"),
    (RESPONSES, {"tools": [{"type": "web_search_preview"}]}, "tools"),
    (MESSAGES, {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools"),
    (MESSAGES, {"mcp_servers": [{}]}, "mcp_servers"),
    # What the engine would keep, blind to tenants.
    (CHAT, {"store": True}, "store"),
    (RESPONSES, {"store": True}, "store"),
    (RESPONSES, {"background": True}, "background"),
    (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, {"conversation": "c"}, "conversation"),
    (RESPONSES, {"prompt": {"id": "p"}}, "prompt"),
    # What it would silently ignore although it changes the answer.
    (CHAT, {"functions": [{}]}, "functions"),
    (CHAT, {"modalities": ["text", "audio"]}, "modalities"),
    (CHAT, {"web_search_options": {}}, "web_search_options"),
    (TEXT, {"best_of": 3}, "best_of"),
    # What is too much, or of the wrong type where safety needs the right one.
    (CHAT, {"n": 129}, "n"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": "2"}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"top_logprobs": -1}, "top_logprobs"),
    (TEXT, {"logprobs": -1}, "logprobs"),
    (TEXT, {"prompt": ["a"] * 129}, "prompt"),
    (TEXT, {"prompt": ["a"] * 65, "n": 2}, "prompt"),
    (TEXT, {"prompt": [[1]] * 65, "n": 2}, "prompt"),
    (CHAT, {"stop": "x" * 5000}, "stop"),
    (CHAT, {"stop": ["x"] * 65}, "stop"),
    (CHAT, {"stop": [1]}, "stop"),
    (CHAT, {"bad_words": ["w"] * 129}, "bad_words"),
    (CHAT, {"bad_words": ["word " * 1000]}, "bad_words"),
    (CHAT, {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    (CHAT, {"max_tokens": 2**31}, "max_tokens"),
    (CHAT, {"seed": 2**63}, "seed"),
    (CHAT, {"stream": 1}, "stream"),
    (CHAT, {"stream_options": []}, "stream_options"),
    (CHAT, {"messages": {}}, "messages"),
    (CHAT, {"messages": ["x"]}, "messages"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": WIDE}}}, "response_format"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": LONG}}}, "response_format"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": WIDE}}]}, "tools"),
    (MESSAGES, {"tools": [{"name": "f", "input_schema": WIDE}]}, "tools"),
    (
        TEXT,
        {"structured_outputs": {"regex": ".{1,200}a.{1,201}b.{1,202}c.{1,203}d.{9}"}},
        "structured_outputs",
    ),
    (TEXT, {"structured_outputs": {"json": orjson.dumps(LONG).decode()}}, "structured_outputs"),
    (TEXT, {"structured_outputs": {"json": "{"}}, "structured_outputs"),
    (TEXT, {"structured_outputs": {"choice": ["a long choice"] * 2000}}, "structured_outputs"),
    (TEXT, {"structured_outputs": {"json": {}, "whitespace_pattern": "x"}}, "structured_outputs"),
    (TEXT, {"structured_outputs": {"backend": "x"}}, "structured_outputs"),
    (RESPONSES, {"text": {"format": {"type": "json_schema", "schema": WIDE}}}, "text"),
    (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": WIDE}}}, "output_config"),
]


@pytest.mark.parametrize(("path", "body", "param"), REFUSED)
def test_what_is_refused(path: str, body: dict[str, Any], param: str) -> None:
    """Each is a 400 that names the field and says why."""
    error = refusal(path, {"model": "support", **body})
    assert (error.status, error.param) == (400, param)
    assert error.code in ("unsupported_parameter", "invalid_value", None)
    assert len(error.message) > len(param) + 10


def test_a_float_is_no_whole_number() -> None:
    """A number that is written as a float is not taken for a whole one, even where its value is."""
    with pytest.raises(InvalidRequest, match="whole number"):
        BY_PATH[CHAT].check(parse_body(b'{"n": 1.0}'))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("temprature", "did you mean 'temperature'?"), ("max_token", "'max_tokens'"), ("zzz", "'zzz'")],
)
def test_unknown_fields_get_a_hint(name: str, hint: str) -> None:
    """An unknown field is refused by its name, with a close one where there is one."""
    error = refusal(CHAT, {name: 1})
    assert (error.code, error.param) == ("unknown_parameter", name)
    assert hint in error.message


@given(
    st.dictionaries(
        st.sampled_from([*fields.CHAT, *fields.COMPLETIONS, "x"]), st.none() | st.integers() | st.text()
    )
)
def test_only_listed_fields_ever_pass(body: dict[str, Any]) -> None:
    """Whatever a client sends, what passes is in the table, and null stands for not given."""
    try:
        check_fields(body, fields.COMPLETIONS)
        check_sequences(body)
    except InvalidRequest as error:
        assert error.param in {*body, "prompt", "echo"}  # noqa: PT017 - a pass is an outcome too
        return
    assert set(body) <= set(fields.COMPLETIONS)
    assert not {"cache_salt", "prompt_logprobs", "request_id", "prompt_embeds"} & set(body)
