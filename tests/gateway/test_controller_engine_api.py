"""The controller's client for one engine."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest

from gateway.controller.engine_api import (
    AlreadyLoaded,
    EngineApi,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    Identity,
    NotLoaded,
)
from gateway.store.fleet import LeaseLost
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine

Call = Callable[[EngineApi], Awaitable[object]]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One engine."""
    with fake_engine.start() as engine:
        yield engine


def ask(url: str, call: Call) -> object:
    """Make one call with a client of its own."""

    async def work() -> object:
        async with httpx.AsyncClient() as http:
            return await call(EngineApi(http, url))

    return asyncio.run(work())


def answering(respond: Callable[[httpx.Request], httpx.Response], call: Call) -> object:
    """Make one call to a server that answers as told."""

    async def work() -> object:
        async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as http:
            return await call(EngineApi(http, "http://engine"))

    return asyncio.run(work())


def test_what_an_engine_says_of_itself(engine: FakeEngine) -> None:
    """Incarnation and adapters come as the engine writes them; the base model is no adapter."""
    engine.register("a@1", "/blobs/d")
    assert ask(engine.url, lambda api: api.health()) is None
    assert ask(engine.url, lambda api: api.identity()).incarnation == engine.incarnation
    assert ask(engine.url, lambda api: api.adapters()) == {"a@1": "/blobs/d"}


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda api: api.load("a@1", "/blobs/d"), AlreadyLoaded),
        (lambda api: api.load("b@1", "/missing"), EngineRefused),
        (lambda api: api.unload("b@1"), NotLoaded),
        (lambda api: api.first_tokens("b@1", ("p",), count=20, cache_salt="s"), EngineRefused),
    ],
)
def test_refusals_are_typed(engine: FakeEngine, call: Call, fault: type[EngineError]) -> None:
    """Each refusal of the engine is an error of its own kind."""
    engine.register("a@1", "/blobs/d")
    with pytest.raises(fault) as caught:
        ask(engine.url, call)
    assert type(caught.value) is fault


def test_unloading_and_probing(engine: FakeEngine) -> None:
    """Probes come back by token id in the order of the prompts, with the echoed name; unloading unloads."""
    engine.register("a@1")
    answer = ask(engine.url, lambda api: api.first_tokens("a@1", ("p", "q"), count=3, cache_salt="s"))
    expected = tuple(
        {token.removeprefix("token_id:"): value for token, value in top.items()}
        for top in (fake_engine.first_logprobs(b"a@1", prompt, 3) for prompt in ("p", "q"))
    )
    assert (answer.model, answer.tops) == ("a@1", expected)  # type: ignore[attr-defined]
    ask(engine.url, lambda api: api.unload("a@1"))
    assert engine.adapters == []


@pytest.mark.parametrize(
    "respond",
    [
        lambda _: httpx.Response(200, text="not json"),
        lambda _: httpx.Response(200, json={"data": None}),
        lambda _: httpx.Response(200, json=[]),
        lambda _: httpx.Response(200, json={"model": "a@1", "choices": []}),
        lambda _: httpx.Response(503),
        lambda _: httpx.Response(429),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.adapters(),
        lambda api: api.identity(),
        lambda api: api.first_tokens("a@1", ("p",), count=20, cache_salt="s"),
    ],
)
def test_nonsense_and_overload_say_nothing_of_an_adapter(
    respond: Callable[[httpx.Request], httpx.Response], call: Call
) -> None:
    """An answer that is not vLLM's, or a busy one, means that the engine can't be asked now."""
    with pytest.raises(EngineUnreachable):
        answering(respond, call)


@pytest.mark.parametrize("fault", [httpx.ReadTimeout("slow"), httpx.ConnectError("secret path")])
def test_a_silent_engine_is_unreachable(fault: Exception) -> None:
    """Time-outs and broken connections are one kind of error, without the library's text."""

    def respond(_: httpx.Request) -> httpx.Response:
        raise fault

    with pytest.raises(EngineUnreachable) as caught:
        answering(respond, lambda api: api.health())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "incarnation"),
    [
        ("# HELP process_start_time_seconds x\nprocess_start_time_seconds 1.7e+09\n", "1.7e+09"),
        ("process_start_time_seconds{} 17.5\n", "17.5"),
        ("process_start_time_seconds_other 3\nprocess_start_time_seconds 4\n", "4"),
        ("up 1\n", None),
    ],
)
def test_the_incarnation_is_found_in_the_metrics(metrics: str, incarnation: str | None) -> None:
    """The one sample of that name is taken; without it the engine can't be worked with."""

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=metrics)

    if incarnation is None:
        with pytest.raises(EngineUnreachable, match="restarts can't be noticed"):
            answering(respond, lambda api: api.identity())
    else:
        assert answering(respond, lambda api: api.identity()).incarnation == incarnation


@pytest.mark.parametrize(
    ("labels", "block_tokens", "caches"),
    [
        ('block_size="32",enable_prefix_caching="True"', 32, True),
        ('cache_dtype="auto",block_size="128",enable_prefix_caching="False",engine="0"', 128, False),
        ('engine="0"', 16, True),
    ],
)
def test_what_the_prefix_cache_is_like(labels: str, block_tokens: int, caches: bool) -> None:
    """Its block and whether it is on stand in labels of one metric; unless that says no, it counts as on."""

    def respond(_: httpx.Request) -> httpx.Response:
        text = f"process_start_time_seconds 4\nvllm:cache_config_info{{{labels}}} 1.0\n"
        return httpx.Response(200, text=text)

    assert answering(respond, lambda api: api.identity()) == Identity("4", block_tokens, caches)


RUNNING = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 1.0\n'
WAITING = 'vllm:num_requests_waiting{engine="0"} 4.0\nvllm:num_requests_waiting_by_reason{reason="x"} 4.0\n'
ENDED = (
    'vllm:request_success_total{finished_reason="stop"} 5.0\n'
    'vllm:request_success_total{finished_reason="abort"} 1.0\n'
)
STEPS = (
    'vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 3.0\n'
    'vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="m"} 7.0\n'
    'vllm:iteration_tokens_total_bucket{engine="0",le="128.0"} 9.0\n'
    'vllm:iteration_tokens_total_count{engine="0"} 65.0\nvllm:iteration_tokens_total_sum{engine="0"} 99.0\n'
)


@pytest.mark.parametrize(
    ("metrics", "open_requests", "ended", "steps"),
    [
        (RUNNING + WAITING + ENDED + STEPS, 7, 6, (65, 7)),
        (RUNNING + ENDED, None, 6, None),
        (WAITING + STEPS.replace("65.0", "NaN"), None, None, None),
        (RUNNING + WAITING.replace(" 4.0", " -4.0"), None, None, None),
        ("", None, None, None),
    ],
    ids=["whole", "none-waits", "nonsense", "negative", "nothing"],
)
def test_what_an_engine_has_to_do(
    metrics: str, open_requests: int | None, ended: int | None, steps: tuple[int, int] | None
) -> None:
    """Requests of all its cores and reasons are added up; what is not there, or no count, is not guessed."""

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"process_start_time_seconds 4\n{metrics}")

    found = answering(respond, lambda api: api.identity())
    assert (found.open_requests, found.ended_requests, found.steps) == (open_requests, ended, steps)


def test_no_call_leaves_without_permission(engine: FakeEngine) -> None:
    """What `permit` raises stops the call before a byte is sent."""

    def refuse() -> None:
        raise LeaseLost("over")

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            api = EngineApi(http, engine.url, permit=refuse)
            for call in (api.health(), api.load("a@1", "/x"), api.unload("a@1")):
                with pytest.raises(LeaseLost):
                    await call

    asyncio.run(work())
    assert engine.received == []
    assert engine.base_model == BASE_MODEL
