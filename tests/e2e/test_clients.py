"""The official `openai` and `anthropic` clients against the whole service: every endpoint and its errors."""

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from gateway.store.database import Database
from gateway.store.requests import Requests
from tests.e2e.conftest import Service

BASE = "SmolLM2-135M-Instruct"
ROUTE = "sarcasm"
VERSION = "sarcasm@1"
ASK = "Is this headline sarcastic or serious? Answer with one word.\n\nsenate passes water bill"
HELLO = [{"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
# The example base model calls no tools by itself: a forced, strict call is a grammar, which it must follow.
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": CITY,
        "strict": True,
    },
}


@pytest.fixture
def oai(service: Service) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
def claude(service: Service) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client."""
    with anthropic.Anthropic(base_url=service.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def recorded(service: Service, endpoint: str) -> float:
    """How many completion tokens the service has counted on all routes; `endpoint` must have been served."""
    text = httpx.get(f"{service.url}/metrics").text
    assert f'endpoint="{endpoint}"' in text
    lines = [line for line in text.splitlines() if line.startswith("turnout_completion_tokens_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def judged(service: Service, answer_id: str) -> bool | None:
    """What the row of an answer says of its JSON."""
    database = Database(f"sqlite:///{service.state_dir}/requests.db", "requests")
    deadline = time.monotonic() + 30
    try:
        while (row := Requests(database).find(answer_id)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        database.close()
    return row.schema_valid


# --- OpenAI ----------------------------------------------------------------------------------------------


def test_models(oai: openai.OpenAI) -> None:
    """Routes, versions and the base model are listed, and each can be asked for."""
    names = [model.id for model in oai.models.list()]
    assert {ROUTE, VERSION, BASE} <= set(names)
    assert oai.models.retrieve(VERSION).id == VERSION


@pytest.mark.parametrize(("model", "answers"), [(ROUTE, VERSION), (VERSION, VERSION), (BASE, BASE)])
def test_chat(oai: openai.OpenAI, model: str, answers: str) -> None:
    """A chat is answered by what its model means, with usage."""
    answer = oai.chat.completions.create(
        model=model, messages=[{"role": "user", "content": ASK}], max_tokens=8, temperature=0
    )
    assert answer.model == answers
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("usage", [True, False])
def test_chat_stream(oai: openai.OpenAI, service: Service, *, usage: bool) -> None:
    """A stream has text and an end, and usage exactly when it was asked for; it is counted either way."""
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    before = recorded(service, "chat/completions")
    with oai.chat.completions.create(
        model=ROUTE, messages=[{"role": "user", "content": ASK}], max_tokens=8, stream=True, **options
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert {chunk.model for chunk in chunks} == {VERSION}
    assert any(chunk.usage for chunk in chunks) is usage
    assert recorded(service, "chat/completions") > before


def test_chat_with_structured_output(oai: openai.OpenAI, service: Service) -> None:
    """An answer to a JSON schema is JSON of that schema, and its row says so."""
    answer = oai.chat.completions.create(
        model=BASE,
        messages=[{"role": "user", "content": "Where is it sunny?"}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": SCHEMA, "strict": True},
        },
        max_tokens=100,
        temperature=0,
        extra_body={"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
    )
    said = json.loads(answer.choices[0].message.content or "")
    assert set(said) == {"city", "sunny"}
    assert said["city"] in ("Paris", "Rome")
    assert judged(service, answer.id) is True


def test_chat_with_tools(oai: openai.OpenAI, service: Service) -> None:
    """A forced tool call has the tool's arguments; with `none` the tools are left alone."""
    forced = oai.chat.completions.create(
        model=BASE,
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=60,
        temperature=0,
    )
    calls: Any = forced.choices[0].message.tool_calls
    assert calls[0].function.name == "weather"
    assert set(json.loads(calls[0].function.arguments)) == {"city"}
    assert judged(service, forced.id) is True
    for choice in ("none", "auto"):
        plain = oai.chat.completions.create(
            model=BASE, messages=HELLO, tools=[TOOL], tool_choice=choice, max_tokens=8, temperature=0
        )
        assert plain.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_completions(oai: openai.OpenAI) -> None:
    """Text completions work whole, with choices and log-probabilities, and streamed."""
    whole = oai.completions.create(model=BASE, prompt="Once upon", max_tokens=4, n=2, logprobs=2)
    assert len(whole.choices) == 2
    assert whole.choices[0].logprobs is not None
    with oai.completions.create(model=ROUTE, prompt=ASK, max_tokens=4, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def test_responses(oai: openai.OpenAI, service: Service) -> None:
    """A response is answered whole and streamed, stores nothing, and is counted."""
    whole = oai.responses.create(model=ROUTE, input=ASK, max_output_tokens=8)
    assert whole.model == VERSION
    assert whole.output_text
    assert whole.usage is not None
    before = recorded(service, "responses")
    with oai.responses.create(model=ROUTE, input=ASK, max_output_tokens=8, stream=True) as stream:
        events = list(stream)
    assert events[0].type == "response.created"
    last: Any = events[-1]
    assert last.type == "response.completed"
    assert last.response.model == VERSION
    assert recorded(service, "responses") == before + last.response.usage.output_tokens


def test_responses_with_structured_output(oai: openai.OpenAI, service: Service) -> None:
    """A response's text follows a JSON schema, however much white space the model puts into it."""
    answer = oai.responses.create(
        model=BASE,
        input="Where is it sunny?",
        text={"format": {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}},
        max_output_tokens=200,
        temperature=0,
    )
    assert judged(service, answer.id) is (answer.status == "completed")
    if answer.status == "completed":
        assert set(json.loads(answer.output_text)) == {"city", "sunny"}
    else:
        assert answer.output_text.lstrip().startswith("{")


OPENAI_ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], str]] = [
    ({"model": "sarcasmus"}, openai.NotFoundError, "model_not_found"),
    ({"model": ""}, openai.NotFoundError, "model_not_found"),
    ({"temperature": 9.0}, openai.BadRequestError, ""),
    ({"max_tokens": 100_000}, openai.BadRequestError, ""),
    ({"store": True}, openai.BadRequestError, "unsupported_parameter"),
    ({"extra_body": {"prompt_logprobs": 1}}, openai.BadRequestError, "unsupported_parameter"),
    ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "unknown_parameter"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "kind", "code"), OPENAI_ERRORS)
def test_openai_errors(
    oai: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str, *, stream: bool
) -> None:
    """Our refusals and the engine's are errors of the client's own classes, with a message for a person."""
    request: dict[str, Any] = {"model": BASE, "messages": HELLO, "max_tokens": 4, **fields}
    with pytest.raises(kind) as refused:
        oai.chat.completions.create(**request, stream=stream)
    assert len(refused.value.message) > 20
    assert refused.value.request_id
    if code:
        assert refused.value.code == code


def test_tokens(service: Service) -> None:
    """Tokens are counted and turned back into the text."""
    said = "Once upon a time"
    tokens = httpx.post(f"{service.url}/tokenize", json={"model": ROUTE, "prompt": said}).json()["tokens"]
    text = httpx.post(f"{service.url}/detokenize", json={"model": ROUTE, "tokens": tokens}).json()["prompt"]
    assert text == said


# --- Anthropic -------------------------------------------------------------------------------------------


def test_messages(claude: anthropic.Anthropic, service: Service) -> None:
    """A message is answered whole and streamed, by the version that was meant, and is counted."""
    asked: Any = [{"role": "user", "content": ASK}]
    whole = claude.messages.create(model=ROUTE, messages=asked, max_tokens=8, system="Be short.")
    assert whole.model == VERSION
    assert whole.content[0].type == "text"
    assert whole.usage.output_tokens > 0
    before = recorded(service, "messages")
    with claude.messages.stream(model=ROUTE, messages=asked, max_tokens=8) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert text == last.content[0].text  # type: ignore[union-attr]
    assert last.stop_reason in ("end_turn", "max_tokens")
    assert recorded(service, "messages") == before + last.usage.output_tokens


def test_messages_with_tools(claude: anthropic.Anthropic) -> None:
    """A forced tool call comes as a block with its input."""
    tool: Any = {"name": "weather", "description": "The weather.", "input_schema": CITY, "strict": True}
    answer = claude.messages.create(
        model=BASE,
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=[tool],
        tool_choice={"type": "tool", "name": "weather"},
        max_tokens=60,
    )
    used = [block for block in answer.content if block.type == "tool_use"]
    assert used[0].name == "weather"
    assert answer.stop_reason == "tool_use"


def test_count_tokens(claude: anthropic.Anthropic) -> None:
    """Tokens of a message are counted without generating any."""
    short = claude.messages.count_tokens(model=ROUTE, messages=[{"role": "user", "content": "Hi"}])
    long = claude.messages.count_tokens(model=ROUTE, messages=[{"role": "user", "content": "Hi " * 50}])
    assert 0 < short.input_tokens < long.input_tokens


ANTHROPIC_ERRORS: list[tuple[dict[str, Any], type[anthropic.APIStatusError], str]] = [
    ({"model": "sarcasmus"}, anthropic.NotFoundError, "not_found_error"),
    ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
    ({"max_tokens": 100_000}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"cache_salt": "x"}}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"temprature": 1}}, anthropic.BadRequestError, "invalid_request_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "kind", "name"), ANTHROPIC_ERRORS)
def test_anthropic_errors(
    claude: anthropic.Anthropic,
    fields: dict[str, Any],
    kind: type[anthropic.APIStatusError],
    name: str,
    *,
    stream: bool,
) -> None:
    """The same for Anthropic's client and its kinds of errors."""
    request: dict[str, Any] = {"model": BASE, "messages": HELLO, "max_tokens": 4, **fields}
    with pytest.raises(kind) as refused:
        claude.messages.create(**request, stream=stream)
    body: Any = refused.value.body
    assert (body["type"], body["error"]["type"]) == ("error", name)
    assert len(body["error"]["message"]) > 10
    assert refused.value.request_id
