"""Limits in running gateways: headers, dialects, two workers on one store, clients that leave, outages."""

import concurrent.futures
import contextlib
import itertools
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.core.limits import Limits
from gateway.core.requests import Role
from gateway.store.database import StoreUnavailable
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine, Knobs
from tests.gateway.harness import Gateway, running, settings_for, wait_until

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
SAID = [{"role": "user", "content": "hello"}]
numbers = itertools.count()


class Two:
    """Two gateways on one store and one engine."""

    def __init__(self, gateways: list[Gateway], engine: FakeEngine) -> None:
        self.gateways = gateways
        self.engine = engine
        self.store = gateways[0].store

    def tenant(self, **limits: Any) -> str:
        """Make a tenant with these limits; return its key."""
        name = f"t{next(numbers)}"
        key = self.store.key(Role.INFERENCE, tenant=name)
        self.limit("tenant", name, **limits)
        self.name = name
        return key

    def limit(self, scope: str, name: str, **limits: Any) -> None:
        """Set somebody's limits, and wait until they hold."""
        assert self.store.control.limits.put(scope, name, Limits(**limits), actor="test", why=None)
        for gateway in self.gateways:
            gateway.settle()

    def ask(self, key: str, which: int = 0, path: str = CHAT, **body: Any) -> httpx.Response:
        """Send a request through one of the two."""
        sent = {"model": BASE_MODEL, "messages": SAID, "max_tokens": 5, **body}
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.gateways[which].url}{path}", json=sent, headers=headers, timeout=60)

    def spent(self, kind: str = "day") -> int:
        """What the tenant has spent, as the store knows it."""
        return self.store.control.limits.spent().totals.get(("tenant", self.name, kind), 0)


@pytest.fixture(scope="module")
def module_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The two, made once a module."""
    settings = settings_for(tmp_path_factory.mktemp("state"), server={"workers": 2})
    with fake_engine.start() as engine, running(settings) as one, running(settings) as other:
        one.store.key(Role.ADMIN)
        one.store.engines({"e0": engine})
        for gateway in (one, other):
            gateway.settle()
        yield Two([one, other], engine)


@pytest.fixture
def two(module_two: Two) -> Two:
    """The two, with an engine that behaves."""
    module_two.engine.knobs = Knobs()
    module_two.engine.received.clear()
    return module_two


def test_two_workers_keep_one_limit(two: Two) -> None:
    """Of many requests at once through both, as many pass as the limit says, and no more."""
    key = two.tenant(requests_per_minute=20)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: two.ask(key, i % 2), range(60)))
    passed = sum(answer.status_code == 200 for answer in answers)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert 10 <= passed <= 20  # what one holds the other one can't use for a second or two

    def all_used() -> bool:
        nonlocal passed
        passed += sum(two.ask(key, which).status_code == 200 for which in (0, 1))
        return passed >= 20

    wait_until(all_used)
    assert passed == 20


def test_what_a_client_is_told(two: Two) -> None:
    """In both dialects: the limit, what is left, when it is whole; and when refused, when to come again."""
    key = two.tenant(requests_per_minute=2, tokens_per_minute=100_000)
    answers = [two.ask(key, path=path) for path in (CHAT, MESSAGES, CHAT, MESSAGES)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    plain, ants = answers[0].headers, answers[1].headers
    assert (plain["x-ratelimit-limit-requests"], plain["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert plain["x-ratelimit-limit-tokens"] == "100000"
    assert 0 < int(plain["x-ratelimit-remaining-tokens"]) < 100_000
    reset = re.fullmatch(r"(?:(\d)m)?(\d+)s", plain["x-ratelimit-reset-requests"])
    assert reset is not None
    assert 30 <= int(reset[1] or 0) * 60 + int(reset[2]) <= 61
    assert ants["anthropic-ratelimit-requests-limit"] == "2"
    assert ants["anthropic-ratelimit-requests-remaining"] == "0"
    assert ants["anthropic-ratelimit-tokens-reset"].endswith("Z")
    assert not [name for name in plain if name.startswith("anthropic")]
    for refused in answers[2:]:
        assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert answers[3].json()["error"]["type"] == "rate_limit_error"
    assert two.gateways[0].metric('turnout_limited_requests_total{limit="requests",scope="tenant"}') >= 2


def test_without_limits_nothing_is_told(two: Two) -> None:
    """An answer to somebody without limits has no such header."""
    two.tenant(requests_per_minute=1)
    free = two.store.key(Role.INFERENCE, tenant="free")
    two.gateways[0].settle()
    assert not [name for name in two.ask(free).headers if "ratelimit" in name]


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        (CHAT, {"max_tokens": None}, ("max_completion_tokens", 7)),
        (CHAT, {"max_tokens": 3}, ("max_tokens", 3)),
        (MESSAGES, {"max_tokens": 7}, ("max_tokens", 7)),
        ("/v1/completions", {"messages": None, "prompt": "a", "max_tokens": None}, ("max_tokens", 7)),
        ("/v1/responses", {"messages": None, "max_tokens": None, "input": "a"}, ("max_output_tokens", 7)),
    ],
)
def test_the_largest_answer(two: Two, path: str, body: dict[str, Any], most: tuple[str, int]) -> None:
    """What asks for no length gets the largest that is allowed; what asks for more is refused."""
    key = two.tenant(max_tokens=7)
    sent = {name: value for name, value in {"max_tokens": 5, "messages": SAID, **body}.items() if value}
    sent["model"] = BASE_MODEL
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=two.gateways[0].url, headers=headers) as http:
        http.post(path, json=sent)
        assert two.engine.posts(path)[-1].json.get(most[0]) == most[1]
        refused = http.post(path, json={**sent, most[0]: 8})
    assert (refused.status_code, f"{most[0]!r} is 8" in refused.text) == (400, True)


def test_a_body_that_is_too_large(two: Two) -> None:
    """A tenant's own limit of bodies is a 413."""
    key = two.tenant(max_body_bytes=2000)
    assert two.ask(key).status_code == 200
    assert two.ask(key, messages=[{"role": "user", "content": "x" * 2000}]).status_code == 413


def test_requests_at_once(two: Two) -> None:
    """While as many are under way as may be, in either worker, the next one is refused; then it passes."""
    key = two.tenant(concurrent=2)
    two.engine.knobs.tokens, two.engine.knobs.token_delay_s = 10_000, 0.05
    before = two.engine.aborted
    with contextlib.ExitStack() as stack:
        for which in (0, 1):
            sent = {"model": BASE_MODEL, "messages": SAID, "stream": True}
            http = stack.enter_context(httpx.Client(headers={"Authorization": f"Bearer {key}"}))
            stack.enter_context(http.stream("POST", f"{two.gateways[which].url}{CHAT}", json=sent))
        for which in (0, 1):
            refused = two.ask(key, which)
            assert refused.status_code == 429
            assert "limit of 2 requests at once is reached" in refused.json()["error"]["message"]
    wait_until(lambda: two.engine.aborted == before + 2)
    two.engine.knobs = Knobs()
    wait_until(lambda: two.ask(key).status_code == 200)


def test_a_budget(two: Two) -> None:
    """What engines counted is spent, in the store within a second or two; then there is no more for today."""
    key = two.tenant(tokens_per_day=2000)
    answer = two.ask(key).json()["usage"]["total_tokens"]
    wait_until(lambda: two.spent() == answer)
    two.limit("tenant", two.name, tokens_per_day=answer)
    refused = two.ask(key, 1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    two.limit("tenant", two.name, tokens_per_day=10_000)
    assert two.ask(key, 1).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_counted(two: Two, *, stream: bool) -> None:
    """What a client that went away has taken of an answer counts against its budget."""
    key = two.tenant(tokens_per_day=1_000_000)
    two.engine.knobs.tokens, two.engine.knobs.token_delay_s = 500, 0.02
    sent = {"model": BASE_MODEL, "messages": SAID, "stream": stream}
    before = two.engine.aborted
    headers = {"Authorization": f"Bearer {key}"}
    if stream:
        with httpx.stream("POST", two.gateways[0].url + CHAT, json=sent, headers=headers) as answer:
            for count, _ in enumerate(answer.iter_raw()):
                if count == 20:
                    break
    else:
        request = httpx.Request("POST", two.gateways[0].url + CHAT, json=sent, headers=headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection((request.url.host, request.url.port or 0)) as there:
            there.sendall(f"POST {CHAT} HTTP/1.1\r\n{lines}\r\n".encode() + request.content)
            wait_until(lambda: two.engine.running == 1)
    wait_until(lambda: two.engine.aborted == before + 1)
    wait_until(lambda: two.spent() >= 20)
    assert two.spent() < 400


def test_while_the_store_is_away(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can't reach the store goes on with its part of a limit, and takes no more."""
    key = two.tenant(requests_per_minute=8)
    limits = two.gateways[0].app.state.gateway.control.limits

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("switched off")

    monkeypatch.setattr(limits, "exchange", away)
    statuses = [two.ask(key).status_code for _ in range(8)]
    assert statuses == [200] * 4 + [429] * 4
    assert [two.ask(key, 1).status_code for _ in range(4)].count(200) == 4  # the other one has the store


def test_a_change_holds_at_once(two: Two) -> None:
    """Limits that are raised, lowered or taken away are so without a restart."""
    key = two.tenant(requests_per_minute=1)
    statuses: Callable[[int], list[int]] = lambda count: [two.ask(key).status_code for _ in range(count)]  # noqa: E731
    assert statuses(2) == [200, 429]
    two.limit("tenant", two.name, requests_per_minute=3)
    wait_until(lambda: two.ask(key).status_code == 200)
    two.limit("tenant", two.name)
    assert statuses(5) == [200] * 5


def test_a_tenants_priority_reaches_the_engine(two: Two) -> None:
    """Where engines schedule by it, each request has its tenant's priority, where the engine takes one."""
    parts = two.gateways[0].app.state.gateway
    ranks = []
    object.__setattr__(parts.hot_path, "rank", parts.limits.rank)  # as engine.scheduling = "priority" does
    try:
        for priority in ("high", "normal", "low"):
            key = two.tenant(priority=priority)
            for path in (CHAT, MESSAGES):
                assert two.ask(key, path=path).status_code == 200
                ranks.append(two.engine.posts(path)[-1].json.get("priority"))
    finally:
        object.__setattr__(parts.hot_path, "rank", None)
    assert ranks == [-1, None, 0, None, 1, None]
    assert two.ask(key).status_code == 200
    assert "priority" not in two.engine.posts(CHAT)[-1].json


def test_each_tenant_has_its_salt(two: Two) -> None:
    """Two tenants' requests reach the engine with salts of their own, a tenant's always with the same."""
    one, other = two.tenant(requests_per_minute=50), two.tenant(requests_per_minute=50)
    for key in (one, other, one):
        assert two.ask(key).status_code == 200
    salts = [request.json["cache_salt"] for request in two.engine.posts(CHAT)]
    assert salts[0] == salts[2] != salts[1]
    assert {len(salt) for salt in salts} == {64}
