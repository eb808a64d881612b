"""The official clients against the fake engine: what broken streams and refusals look like to users.

They are imported where they are used: that takes seconds, which tests that need none should not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.api import fields as known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import anthropic
    import openai

    from tests.gateway.conftest import Rig

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def oai(rig: Rig) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    import openai

    with openai.OpenAI(base_url=f"{rig.gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(rig: Rig) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client."""
    import anthropic

    with anthropic.Anthropic(base_url=rig.gateway.url, api_key="none", max_retries=0) as client:
        yield client


OPENAI: dict[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model="support", messages=HELLO, stream=True),
    "completions": lambda client: client.completions.create(model="support", prompt="hello", stream=True),
    "responses": lambda client: client.responses.create(model="support", input="hello", stream=True),
}


@pytest.mark.parametrize("ask", OPENAI.values(), ids=OPENAI)
@pytest.mark.parametrize("knob", ["drop_after_chunks", "error_after_chunks", "end_after_chunks"])
def test_a_broken_stream_raises_in_openais_client(
    rig: Rig, oai: openai.OpenAI, ask: Callable[[openai.OpenAI], Any], knob: str
) -> None:
    """However the engine breaks off, iterating raises: half an answer is never taken for a whole one."""
    import openai

    for engine in rig.engines.values():
        setattr(engine.knobs, knob, 4)
    got: list[Any] = []
    with pytest.raises(openai.APIError, match="broke off") as raised, ask(oai) as stream:
        got.extend(stream)
    assert len(got) == 4
    assert raised.value.code == "upstream_failed"


@pytest.mark.parametrize("knob", ["drop_after_chunks", "error_after_chunks", "end_after_chunks"])
def test_a_broken_stream_raises_in_anthropics_client(
    rig: Rig, claude: anthropic.Anthropic, knob: str
) -> None:
    """The same for Anthropic's client, in both of its ways to stream."""
    import anthropic

    for engine in rig.engines.values():
        setattr(engine.knobs, knob, 4)
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        claude.messages.stream(model="support", messages=HELLO, max_tokens=4) as text,
    ):
        "".join(text.text_stream)
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        claude.messages.create(model="support", messages=HELLO, max_tokens=4, stream=True) as stream,
    ):
        list(stream)


def test_whole_streams_in_both_clients(oai: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """A whole stream is read to its end by the clients' own accumulators."""
    with claude.messages.stream(model="support", messages=HELLO, max_tokens=4) as stream:
        message = stream.get_final_message()
    assert (message.model, message.stop_reason, message.usage.output_tokens) == ("support@1", "max_tokens", 4)
    with oai.responses.create(model="support", input="hello", stream=True) as events:
        last: Any = list(events)[-1]
    assert (last.type, last.response.model) == ("response.completed", "support@1")


@pytest.mark.parametrize("ask", OPENAI.values(), ids=OPENAI.keys())
def test_a_stream_that_was_read_is_no_disconnect(
    rig: Rig, oai: openai.OpenAI, ask: Callable[[openai.OpenAI], Any]
) -> None:
    """The client leaves as soon as it has read the last event; nobody has abandoned anything."""
    for engine in rig.engines.values():
        engine.knobs.linger_s = 0.2
    before = rig.gateway.metric("turnout_disconnects_total")
    with ask(oai) as stream:
        assert len(list(stream)) >= 4
    rig.idle()
    assert rig.gateway.metric("turnout_disconnects_total") == before


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"model": "suport"}, "NotFoundError", "model_not_found"),
        ({"model": "lost@1"}, "InternalServerError", "cold_load_timeout"),
        ({"n": 1000}, "BadRequestError", "invalid_value"),
        ({"extra_body": {"cache_salt": "x"}}, "BadRequestError", "unsupported_parameter"),
    ],
)
def test_refusals_in_openais_client(oai: openai.OpenAI, fields: dict[str, Any], kind: str, code: str) -> None:
    """A refusal is the error class that users of the client catch, with our code and our request id."""
    import openai

    request: dict[str, Any] = {"model": "support", "messages": HELLO, **fields}
    with pytest.raises(getattr(openai, kind)) as refused:
        oai.chat.completions.create(**request)
    assert refused.value.code == code
    assert str(refused.value.request_id).startswith("req-")


@pytest.mark.parametrize(
    ("fields", "kind", "name"),
    [
        ({"model": "suport"}, "NotFoundError", "not_found_error"),
        ({"model": "lost@1"}, "InternalServerError", "overloaded_error"),
        ({"max_tokens": 0}, "BadRequestError", "invalid_request_error"),
    ],
)
def test_refusals_in_anthropics_client(
    claude: anthropic.Anthropic, fields: dict[str, Any], kind: str, name: str
) -> None:
    """The same for Anthropic's."""
    import anthropic

    request: dict[str, Any] = {"model": "support", "messages": HELLO, "max_tokens": 4, **fields}
    with pytest.raises(getattr(anthropic, kind)) as refused:
        claude.messages.create(**request)
    body: Any = refused.value.body
    assert body["error"]["type"] == name
    assert str(refused.value.request_id).startswith("req-")


def test_every_official_field_is_known() -> None:
    """What the official APIs define is allowed, or refused with a reason; none of it is an unknown name."""
    from anthropic.types import message_count_tokens_params, message_create_params
    from openai.types import completion_create_params
    from openai.types.chat import completion_create_params as chat_create_params
    from openai.types.responses import response_create_params

    for table, params in (
        (known.CHAT, chat_create_params.CompletionCreateParamsBase),
        (known.COMPLETIONS, completion_create_params.CompletionCreateParamsBase),
        (known.RESPONSES, response_create_params.ResponseCreateParamsBase),
        (known.MESSAGES, message_create_params.MessageCreateParamsBase),
        (known.COUNT_TOKENS, message_count_tokens_params.MessageCountTokensParams),
    ):
        assert set(params.__annotations__) - set(table) == set()
