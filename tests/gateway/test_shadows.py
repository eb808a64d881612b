"""Shadow traffic: what is taken and what is dropped, and what becomes of replays on a whole gateway."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway.core.requests import RequestRow, Target
from gateway.relay import Call
from gateway.shadows.allowance import Allowance
from gateway.shadows.queue import ShadowLimits, Shadows
from gateway.shadows.replays import Replays
from gateway.shadows.sample import replayed
from gateway.store.database import StoreUnavailable
from gateway.store.shadows import Pair
from gateway.telemetry import Telemetry
from tests import fake_engine
from tests.fake_engine import FakeEngine, Knobs
from tests.fake_engine_http import Request
from tests.gateway.harness import Gateway, running, settings_for, wait_until

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
LIMITS = ShadowLimits(max_in_flight=1, max_queue=2, max_wait_s=10.0, per_minute=600.0, max_body_bytes=100)


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_filled_by_time() -> None:
    """Ten seconds' worth may go at once; then one whenever its time has come; a small rate gives one."""
    clock = Clock()
    allowance = Allowance(60.0, clock=clock)
    assert [allowance.take() for _ in range(11)] == [True] * 10 + [False]
    clock.now += 1.0
    assert [allowance.take(), allowance.take()] == [True, False]
    allowance.resize(6.0)
    clock.now += 3600.0
    assert [allowance.take(), allowance.take()] == [True, False]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "a@1", "n": 1.25}, {"model": "a@2", "n": 1.25}),
        ({"model": "a@1", "stream": True, "stream_options": {}}, {"model": "a@2", "stream": False}),
        ({"model": "a@1", "request_id": "resp_req-1"}, {"model": "a@2", "request_id": "resp_req-2"}),
    ],
)
def test_what_is_sent_once_more(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """A replay is the same request to the other version under an id of its own, answered in one piece."""
    assert json.loads(replayed(json.dumps(body).encode(), engine_model="a@2", request_id="req-2")) == expected


def call(
    number: int, *, status: int = 200, internal: bool = False, capture: bool = False, size: int = 10
) -> Call:
    """A request that has ended, of a route with the shadow `a@2`."""
    row = RequestRow(f"req-{number}", 0.0, "chat/completions", route="r", status=status, internal=internal)
    row.prompt, row.answer = "question", "answer"
    target = Target("r", "a@1", None, "r", "a@1", capture=capture, shadow="a@2")
    return Call(
        CHAT, b"x" * size, target, stream=False, hide_usage=False, text_limit=9, row=row, received=0.0
    )


def idle_shadows(telemetry: Telemetry, clock: Clock, **limits: Any) -> Shadows:
    """Shadows whose replays never get as far as an engine: the table has no route."""
    nothing: Any = SimpleNamespace(routes={})
    replays = Replays(
        nothing, nothing, nothing, telemetry,
        health=nothing, quarantine=nothing, recorder=nothing, pairs=nothing,
        table=lambda: nothing, new_id=lambda: "req-s", clock=clock,
    )  # fmt: skip
    return Shadows(replays, telemetry, limits=replace(LIMITS, **limits), clock=clock)


def outcomes(telemetry: Telemetry) -> dict[str, int]:
    """How many samples ended how."""
    return {
        sample.labels["outcome"]: int(sample.value)
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "turnout_shadow_requests_total"
    }


OFFERED: list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, int]]] = [
    ({}, [{}], {"ended": 1}),
    ({}, [{"status": 502}, {"status": 499}, {"internal": True}], {}),
    ({}, [{"size": 101}], {"too_large": 1}),
    ({}, [{}] * 4, {"ended": 2, "queue_full": 2}),
    ({"per_minute": 6.0}, [{}, {}], {"ended": 1, "over_budget": 1}),
    ({"max_in_flight": 0}, [{}], {"off": 1}),
    ({"max_wait_s": -1.0}, [{}], {"late": 1}),
]


@pytest.mark.parametrize(("limits", "calls", "counted"), OFFERED)
def test_what_is_dropped_is_counted(
    limits: dict[str, Any], calls: list[dict[str, Any]], counted: dict[str, int]
) -> None:
    """Only answered requests of clients are sampled; each that is not replayed is counted by its cause."""

    async def work() -> None:
        telemetry, clock = Telemetry(), Clock()
        shadows = idle_shadows(telemetry, clock, **limits)
        shadows.share(1)
        for number, fields in enumerate(calls):
            shadows.offer(call(number, **fields))
        while shadows.busy:  # noqa: ASYNC110 - its tasks have no event
            await asyncio.sleep(0)
        assert outcomes(telemetry) == counted

    asyncio.run(work())


def test_texts_leave_the_row_of_a_route_that_captures_none() -> None:
    """What was kept of a request for its shadow alone is not recorded, whatever became of either."""

    async def work() -> None:
        shadows = idle_shadows(Telemetry(), Clock())
        for capture, status in ((False, 200), (False, 502), (True, 200)):
            one = call(1, status=status, capture=capture)
            shadows.offer(one)
            assert (one.row.prompt, one.row.answer) == (("question", "answer") if capture else (None, None))
        await shadows.aclose()

    asyncio.run(work())


def test_the_end_drops_what_waits() -> None:
    """At the end of the process nothing more is replayed, and what waited is counted."""

    async def work() -> None:
        telemetry = Telemetry()
        shadows = idle_shadows(telemetry, Clock())
        shadows.offer(call(1))
        await shadows.aclose()
        shadows.offer(call(2))
        assert (shadows.busy, outcomes(telemetry)) == (0, {"shutdown": 1})

    asyncio.run(work())


# --- on a whole gateway --------------------------------------------------------------------------------


class House:
    """A gateway whose route `support` is served by `e0`, and whose shadow stands on `e1` alone."""

    def __init__(self, gateway: Gateway, served: FakeEngine, shadow: FakeEngine) -> None:
        self.gateway = gateway
        self.served = served
        self.shadow = shadow
        self.pairs = gateway.store.requests.pairs
        self.shadows: Shadows = gateway.app.state.gateway.shadows

    def ask(self, path: str = CHAT, **fields: Any) -> httpx.Response:
        """Send a request to the route."""
        body = {"model": "support", "messages": MESSAGES, **fields}
        if path == "/v1/responses":
            body["input"] = body.pop("messages")[0]["content"]
        elif path == "/v1/completions":
            body["prompt"] = body.pop("messages")[0]["content"]
        answer = httpx.post(f"{self.gateway.url}{path}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer

    def pair(self, answer: httpx.Response) -> Pair:
        """The two answers to a request, once they are stored."""
        found: list[Pair] = []

        def stored() -> bool:
            found.extend(p for p in self.pairs.rows("support") if p.id == answer.headers["x-request-id"])
            return bool(found)

        wait_until(stored)
        return found[0]

    def lose_patience(self) -> None:
        """From the shadow's next request on, nothing is waited for long."""

        def work(request: Request) -> None:
            if request.method == "POST":
                self.gateway.limit(first_byte_timeout_s=0.2)

        self.shadow.on_request = work

    def count(self, outcome: str) -> float:
        """How many samples ended so."""
        return self.gateway.metric(
            f'turnout_shadow_requests_total{{adapter="support@2",outcome="{outcome}"}}'
        )


@pytest.fixture(scope="module")
def module_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house, made once."""
    settings = settings_for(
        tmp_path_factory.mktemp("state"),
        shadow={"per_minute": 60_000, "max_in_flight": 1, "max_queue": 2},
    )
    with fake_engine.start() as served, fake_engine.start() as shadow, running(settings) as gateway:
        store = gateway.store
        store.engines({"e0": served, "e1": shadow})
        served.register(store.version("support"))
        shadow.register(store.version("support"))
        store.attest("e0", served, "support@1")
        store.attest("e1", shadow, "support@2")
        store.route("support", {"support@1": 1.0}, shadow={"adapter": "support@2", "share": 1.0})
        gateway.settle()
        yield House(gateway, served, shadow)


@pytest.fixture
def house(module_house: House) -> House:
    """The house, well behaved."""
    house = module_house
    for engine in (house.served, house.shadow):
        engine.knobs = Knobs()
        engine.on_request = None
    wait_until(lambda: not house.shadows.busy)
    house.gateway.rest()
    house.gateway.limit()
    house.gateway.calm()
    house.shadows._replays._resting_until.clear()
    for engine in (house.served, house.shadow):
        engine.received.clear()
    return house


@pytest.mark.slow
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_both_answers_stand_side_by_side(house: House, path: str, stream: bool) -> None:
    """On each endpoint that generates, a request is answered once more and both answers are stored."""
    more = {"max_tokens": 50} if path == "/v1/messages" else {}
    answer = house.ask(path, stream=stream, **more)
    pair = house.pair(answer)
    assert (pair.adapter, pair.shadow, pair.route) == ("support@1", "support@2", "support")
    assert (pair.prompt, pair.shadow_status, pair.shadow_error) == ("hello", 200, None)
    assert pair.answer is not None
    assert pair.answer.startswith("support@1:")
    assert pair.shadow_answer == pair.answer.replace("support@1", "support@2")
    assert (pair.finish_reason, pair.completion_tokens) == (
        pair.shadow_finish_reason,
        pair.shadow_completion_tokens,
    )
    (sent,) = house.shadow.posts(path)
    assert (sent.json["model"], sent.json.get("stream", False)) == ("support@2", False)
    assert "stream_options" not in sent.json


@pytest.mark.slow
def test_a_replay_is_internal(house: House) -> None:
    """A replay has a row of its own that no count of the route holds; the client's row keeps no text."""
    before = house.gateway.store.requests.by_arm("support")
    answer = house.ask(messages=[{"role": "user", "content": "I am ann@example.com"}])
    pair = house.pair(answer)
    row = house.gateway.row(pair.shadow_id)
    assert (row.internal, row.arm, row.adapter, row.route) == (True, None, "support@2", "support")
    assert house.gateway.row(pair.id).prompt is None
    assert pair.prompt == "I am [E-MAIL]"
    (after,) = house.gateway.store.requests.by_arm("support")
    assert after["requests"] == (before[0]["requests"] if before else 0) + 1


FAILURES = [
    ({"fail_status": 500}, 500, "refused"),
    ({"fail_status": 429}, 429, "refused"),
    ({"close_before_headers": True}, 502, "upstream_failed"),
    ({"hang": True}, 504, "upstream_timeout"),
    ({"answer_as_base": True}, 502, "wrong_model"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("knobs", "status", "code"), FAILURES)
def test_a_shadow_that_fails_hurts_nobody(
    house: House, knobs: dict[str, Any], status: int, code: str
) -> None:
    """The client has its answer, the failure is stored, and the replica stays in service."""
    house.shadow.knobs = Knobs(**knobs)
    if "hang" in knobs:
        house.lose_patience()
    pair = house.pair(house.ask())
    assert (pair.shadow_status, pair.shadow_error, pair.shadow_answer) == (status, code, None)
    assert pair.answer is not None
    assert house.gateway.metric('turnout_replica_circuit{replica="e1"}') == 0
    assert len(house.shadow.posts()) == 1


@pytest.mark.slow
def test_beyond_its_places_replays_are_dropped(house: House) -> None:
    """While a shadow hangs clients are answered; a few replays wait, the others are dropped and counted."""
    house.shadow.knobs.hang = True
    dropped = house.count("queue_full")
    for _ in range(5):
        house.ask()
    wait_until(lambda: house.count("queue_full") >= dropped + 2)
    house.shadow.knobs.hang = False
    house.gateway.limit(first_byte_timeout_s=0.2)
    wait_until(lambda: not house.shadows.busy)


@pytest.mark.slow
def test_a_shadow_without_a_place_is_dropped(house: House) -> None:
    """A version that stands nowhere gets no replay, and nobody waits for it."""
    house.gateway.store.healthy("e1", house.shadow, healthy=False)
    house.gateway.settle()
    before = house.count("no_place")
    house.ask()
    wait_until(lambda: house.count("no_place") == before + 1)
    house.gateway.store.healthy("e1", house.shadow)
    house.gateway.settle()


@pytest.mark.slow
def test_a_shadow_under_which_a_replica_died_rests(house: House) -> None:
    """The replay that killed an engine is not sent again, and its version gets no others for a while."""
    house.shadow.knobs.killer = "poison"
    poison = [{"role": "user", "content": "poison"}]
    pair = house.pair(house.ask(messages=poison))
    assert (pair.shadow_status, house.shadow.dead) == (502, True)
    house.shadow.knobs.killer = None
    house.shadow.live_again()
    house.shadow.register("support@2")
    before = house.count("resting")
    house.ask()
    wait_until(lambda: house.count("resting") == before + 1)
    house.shadows._replays._resting_until.clear()
    refused = house.count("quarantined")
    house.ask(messages=poison)
    wait_until(lambda: house.count("quarantined") == refused + 1)


@pytest.mark.slow
def test_a_pair_that_is_not_stored_hurts_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store takes no pairs clients are answered, and each lost pair is counted."""

    def down(_pair: Pair) -> None:
        raise StoreUnavailable("down")

    before = house.count("not_stored")
    monkeypatch.setattr(house.gateway.app.state.gateway.requests.pairs, "add", down)
    house.ask()
    wait_until(lambda: house.count("not_stored") == before + 1)


@pytest.mark.slow
def test_pairs_are_summed_up(house: House) -> None:
    """Of a route's pairs: how many, how many shadows failed, how many answers are the same."""
    start = house.pair(house.ask()).at
    house.shadow.knobs.fail_status = 500
    newest = house.pair(house.ask())
    assert house.pairs.rows("support", limit=1) == [newest]
    assert house.pairs.rows("support", since=newest.at + 1) == []
    (found,) = house.pairs.summary("support", since=start)
    assert (found["adapter"], found["shadow"]) == ("support@1", "support@2")
    assert [found[name] for name in ("pairs", "failed", "compared", "same")] == [2, 1, 1, 0]
    assert found["mean_completion_tokens"] == found["mean_shadow_completion_tokens"] == 4.0
