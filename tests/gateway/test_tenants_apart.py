"""Two tenants on one gateway: nothing of one is in any answer to the other, whatever that one asks.

The operations are read from the OpenAPI document; the engines' endpoints, which are not in it, are asked too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.api.endpoints import ENDPOINTS
from gateway.auth import key_id_of
from gateway.core.limits import Limits
from gateway.core.requests import Role
from gateway.core.routes import Capture
from tests import fake_engine
from tests.gateway.harness import Gateway, running, settings_for

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
WORDS, COMMENT, SUBJECT, TENANT = "the-words-of-ann", "what-ann-thinks", "a-client-of-ann", "ann-and-sons"
OWN_EACH_TIME = frozenset(
    {"date", "x-request-id", "request-id", "content-length", "anthropic-ratelimit-requests-reset"}
)
_ID = re.compile(r"req[-_][0-9a-f-]{16,}|(?<=\"request_id\":\")[^\"]+")


@dataclass(frozen=True)
class Two:
    """Ann has asked and rated; Bob has a key of his own, for a route of his own, and asks what he likes."""

    gateway: Gateway
    ann: str
    bob: str
    facts: dict[str, str]

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask as Bob."""
        headers = {"Authorization": f"Bearer {self.bob}", **more.pop("headers", {})}
        return httpx.request(method, self.gateway.url + path, headers=headers, timeout=20, **more)

    def told(self, answer: httpx.Response, *sent: str) -> set[str]:
        """What an answer says of Ann that Bob had not said himself."""
        whole = f"{answer.headers!r}{answer.text}"
        return {name for name, fact in self.facts.items() if fact in whole and name not in sent}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """A gateway that others than this machine may reach, as far as it knows."""
    settings = settings_for(tmp_path_factory.mktemp("state"), server={"host": "0.0.0.0"})  # noqa: S104 - it is not bound
    with fake_engine.start() as engine, running(settings) as gateway:
        store = gateway.store
        store.engines({"e0": engine})
        for name in ("anns", "bobs"):
            engine.register(store.version(name))
            store.attest("e0", engine, f"{name}@1")
            store.route(name, {f"{name}@1": 1.0}, capture=Capture(mode="full", redact=False))
        ann = store.key(Role.INFERENCE, Role.FEEDBACK, tenant=TENANT, models=("anns", "anns@*"))
        bob = store.key(*(set(Role) - {Role.ADMIN, Role.TRAINER}), tenant="bob", models=("bobs",))
        some = Limits(requests_per_minute=50, tokens_per_day=10_000)
        for scope, name in (("tenant", TENANT), ("tenant", "bob"), ("route", "anns")):
            store.control.limits.put(scope, name, some, actor="test", why=None)
        gateway.settle()
        hers = {"Authorization": f"Bearer {ann}"}
        body = {"model": "anns", "messages": [{"role": "user", "content": WORDS}], "user": SUBJECT}
        asked = httpx.post(gateway.url + CHAT, json=body, headers=hers)
        assert asked.status_code == 200
        request_id = asked.headers["x-request-id"]
        gateway.row(request_id)
        rating = {"request_id": request_id, "metric": "thumbs", "value": True, "comment": COMMENT}
        assert httpx.post(f"{gateway.url}/v1/feedback", json=rating, headers=hers).status_code == 200
        facts = {
            "route": "anns", "words": WORDS, "comment": COMMENT, "subject": SUBJECT, "tenant": TENANT,
            "key_id": str(key_id_of(ann)), "key": ann[-32:], "request_id": request_id,
            "answer_id": asked.json()["id"],
        }  # fmt: skip
        yield Two(gateway, ann, bob, facts)


def same_but_for(answer: httpx.Response, name: str, other: str) -> tuple[int, dict[str, str], str]:
    """An answer in which one name stands for the other, without what is new in each."""
    headers = {key: value for key, value in answer.headers.items() if key not in OWN_EACH_TIME}
    return answer.status_code, headers, _ID.sub("ID", answer.text.replace(name, other))


def operations(two: Two) -> list[tuple[str, str]]:
    """Every method and path of the document."""
    paths = two.ask("GET", "/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_no_operation_tells_of_another_tenant(two: Two) -> None:
    """Asked for what is Ann's, each answers as for what is nobody's, and says nothing of her."""
    every = operations(two)
    assert len(every) > 60
    whose = {
        "route": ("route", "anns"), "name": ("route", "anns"), "key_id": ("key_id", two.facts["key_id"]),
        "request_id": ("request_id", two.facts["request_id"]), "row_id": ("request_id", "row-1"),
        "run": ("run", "loop-1"), "version": ("version", "1"), "scope": ("scope", "tenant"),
    }  # fmt: skip
    for method, path in every:
        names = re.findall(r"{(\w+)}", path)
        fact, real = whose[names[0]] if names else ("", "")
        nobodys = "zz" + real[2:]
        rest = {name: whose[name][1] for name in names[1:]}
        body = {} if method in ("POST", "PUT") else None
        hers, theirs = (
            two.ask(method, path.format(**{**rest, **({names[0]: value} if names else {})}), json=body)
            for value in (real, nobodys)
        )
        assert two.told(hers, fact) == set(), (method, path)
        assert two.told(theirs) == set(), (method, path)
        if names:
            assert same_but_for(hers, real, nobodys) == same_but_for(theirs, real, nobodys), (method, path)
        if path.startswith("/admin") or path == "/metrics":
            assert hers.status_code == 403, (method, path)


@pytest.mark.parametrize("name", ["anns", "anns@1", "ann", "annss", "anns@2", "Anns"])
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.path for endpoint in ENDPOINTS])
def test_no_engines_endpoint_tells_of_another_tenant(two: Two, endpoint: Any, name: str) -> None:
    """A name that is hers, or nearly, is as unknown as any other; there are no hints."""
    said = {"messages": [{"role": "user", "content": "x"}]}
    fields = {
        "/v1/completions": {"prompt": "x"}, "/v1/responses": {"input": "x"}, "/tokenize": {"prompt": "x"},
        "/v1/messages": {**said, "max_tokens": 1}, "/detokenize": {"tokens": [1]},
    }.get(endpoint.path, said)  # fmt: skip
    other = "zz" + name[2:]
    hers, theirs = (two.ask("POST", endpoint.path, json={"model": it, **fields}) for it in (name, other))
    assert hers.status_code == 404
    assert two.told(hers, "route") == two.told(theirs) == set()
    assert same_but_for(hers, name, other) == same_but_for(theirs, name, other)


@pytest.mark.parametrize(("fact", "metric"), [("request_id", "thumbs"), ("answer_id", "demonstration")])
def test_her_requests_are_nobodys(two: Two, fact: str, metric: str) -> None:
    """By the request's id or the answer's, rated before or not, and with her subject."""
    real = two.facts[fact]
    other = real[:-4] + ("0000" if not real.endswith("0000") else "1111")
    body = {"metric": metric, "value": "x" if metric == "demonstration" else True, "comment": "mine"}
    headers = {"x-turnout-subject": SUBJECT}
    hers, theirs = (
        two.ask("POST", "/v1/feedback", json={**body, "request_id": it}, headers=headers)
        for it in (real, other)
    )
    assert hers.status_code == 404
    assert two.told(hers, "request_id", "answer_id", "subject") == set()
    assert same_but_for(hers, real, other) == same_but_for(theirs, real, other)


def test_his_own_answers_are_his_alone(two: Two) -> None:
    """Her words and what she has used are in no answer of his, good or bad; nor is his route in hers."""
    body = {"model": "bobs", "messages": [{"role": "user", "content": "hello"}], "user": SUBJECT}
    good = two.ask("POST", CHAT, json=body)
    assert (good.status_code, good.headers["x-ratelimit-limit-requests"]) == (200, "50")
    assert two.told(good, "subject") == set()
    for wrong in ({**body, "priority": 1}, {**body, "nonsense": 1}, {**body, "stream": "x"}):
        bad = two.ask("POST", CHAT, json=wrong)
        assert bad.status_code == 400
        assert two.told(bad, "subject") == set()
    listed = httpx.get(f"{two.gateway.url}/v1/models", headers={"Authorization": f"Bearer {two.ann}"})
    assert "bobs" not in listed.text
    assert [card["id"] for card in two.ask("GET", "/v1/models").json()["data"]] == ["bobs"]
