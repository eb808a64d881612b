"""The app around the hot path: models, feedback, ops, headers, errors, and a store that goes away."""

import asyncio
import concurrent.futures
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.requests import Role
from gateway.store.drift import DriftRow
from tests import fake_engine
from tests.gateway.conftest import Rig
from tests.gateway.harness import running, settings_for, wait_until

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
BODY = {"model": "support", "messages": [{"role": "user", "content": "hello"}]}
HEADERS = ("x-request-id", "x-turnout-route", "x-turnout-adapter", "x-turnout-arm")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/support", 200),
        ("GET", "/v1/models/no-such", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/feedback", 400),
        ("POST", CHAT, 415),
        ("GET", "/admin/nothing", 404),
    ],
)
def test_every_answer_has_the_headers_and_every_error_the_body(
    rig: Rig, method: str, path: str, status: int
) -> None:
    """Whatever is asked, the four headers are there, and an error is in OpenAI's form."""
    answer = rig.http.request(method, path, headers={"x-request-id": "cli ent\t1"})
    assert answer.status_code == status
    assert all(answer.headers[name] for name in HEADERS)
    assert answer.headers["x-client-request-id"] == "client1"
    if status >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_fault_of_ours_leaks_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen exception is a 500 with the headers, and counted, on the hot path and beside it."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("gateway.api.completions.resolve", broken)
    monkeypatch.setattr("gateway.api.models.card_of", broken)
    for answer in (rig.http.post(CHAT, json=BODY), rig.http.get("/v1/models/support")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"].startswith("req-")
    for task in ("request", "http"):
        assert rig.gateway.metric(f'turnout_background_errors_total{{task="{task}"}}') >= 1


def test_models_are_listed_in_openais_form(rig: Rig) -> None:
    """The official client reads the list: routes, the base model and versions, with what is served now."""
    import openai

    client = openai.OpenAI(base_url=f"{rig.gateway.url}/v1", api_key="none")
    ids = [model.id for model in client.models.list()]
    base = "SmolLM2-135M-Instruct"
    assert ids == ["lost", "solo", "support", base, "lost@1", "solo@1", "support@1"]
    cards = {card["id"]: card for card in rig.http.get("/v1/models").json()["data"]}
    assert {name for name, card in cards.items() if not card["ready"]} == {"lost", "lost@1"}
    assert client.models.retrieve("support@1").owned_by == "turnout"
    assert (cards["support"]["parent"], cards[base]["parent"]) == (base, None)


def test_the_official_client_streams(rig: Rig) -> None:
    """The official client reads whole answers, streams and errors of ours."""
    import openai

    client = openai.OpenAI(base_url=f"{rig.gateway.url}/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "hello"}]
    whole = client.chat.completions.create(model="support", messages=messages)
    assert whole.choices[0].message.content == "support@1: w1 w2 w3"
    with client.chat.completions.create(model="support", messages=messages, stream=True) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "support@1: w1 w2 w3"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nope", messages=messages)
    assert missing.value.code == "model_not_found"
    for engine in rig.engines.values():
        engine.knobs.drop_after_chunks = 2
    with (
        pytest.raises(openai.APIError),
        client.chat.completions.create(model="support", messages=messages, stream=True) as stream,
    ):
        list(stream)


def test_a_large_body_beside_the_hot_path(rig: Rig) -> None:
    """Every endpoint under /v1 has the limit of the hot path."""
    rating = {"request_id": "x", "metric": "thumbs", "value": True, "comment": "x" * 100_000}
    assert rig.http.post("/v1/feedback", json=rating).status_code == 413


# --- keys ----------------------------------------------------------------------------------------------


def test_roles_and_tenants(tmp_path: Path) -> None:
    """Each endpoint asks for its role; a tenant can't rate another tenant's answers; revoking works soon."""
    settings = settings_for(tmp_path, recording={"interval_s": 0.02})
    with (
        fake_engine.start() as engine,
        running(settings) as gateway,
        httpx.Client(base_url=gateway.url) as http,
    ):
        store = gateway.store
        store.engines({"e0": engine})
        engine.register(store.version("support"))
        store.attest("e0", engine, "support@1")
        store.route("support", {"support@1": 1.0})
        infer, feed = store.key(Role.INFERENCE, tenant="acme"), store.key(Role.FEEDBACK, tenant="acme")
        other, admin = store.key(Role.FEEDBACK, tenant="other"), store.key(Role.ADMIN)
        gateway.settle()

        def as_(key: str | None) -> dict[str, str]:
            return {"authorization": f"Bearer {key}"} if key else {}

        answer = http.post(CHAT, json=BODY, headers=as_(infer))
        rating = {"request_id": answer.headers["x-request-id"], "metric": "thumbs", "value": True}
        table = [
            ("POST", CHAT, BODY, {infer: 200, feed: 403, admin: 403, None: 401, "tk-wrong": 401}),
            ("GET", "/v1/models", None, {infer: 200, feed: 403, None: 401}),
            ("POST", "/v1/feedback", rating, {feed: 200, infer: 403, other: 404, None: 401}),
            ("GET", "/admin/replicas", None, {admin: 200, infer: 403, None: 401}),
        ]
        for method, path, body, expected in table:
            for key, status in expected.items():
                said = http.request(method, path, json=body, headers=as_(key))
                assert said.status_code == status, (path, said.text)
                if status == 401:
                    assert said.headers["www-authenticate"] == "Bearer"
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.tenant, row.key_id) == ("acme", infer.split("-")[1])
        store.control.keys.revoke(row.key_id, actor="test")
        gateway.settle()
        assert http.post(CHAT, json=BODY, headers=as_(infer)).status_code == 401


# --- ops -----------------------------------------------------------------------------------------------


def test_readiness_turns_red_when_draining(tmp_path: Path) -> None:
    """From begin_drain on the worker is not ready, and still serves what comes."""
    with fake_engine.start() as engine, running(settings_for(tmp_path)) as gateway:
        gateway.store.engines({"e0": engine})
        gateway.settle()
        assert gateway.ready()["ready"] is True
        assert gateway.ready()["replicas"] == {"e0": True}
        gateway.app.state.begin_drain()
        answer = httpx.get(f"{gateway.url}/readyz")
        assert (answer.status_code, answer.json()["draining"]) == (503, True)
        body = {**BODY, "model": "base"}
        assert httpx.post(gateway.url + CHAT, json=body).status_code == 200


def test_the_worker_shows_what_it_serves_and_signs_off(tmp_path: Path) -> None:
    """The worker's row has its generation and its requests by version, and goes when the worker stops."""
    with fake_engine.start() as engine, running(settings_for(tmp_path)) as gateway:
        store = gateway.store
        store.engines({"e0": engine})
        gateway.settle()
        engine.knobs.hang = True
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            threads.submit(httpx.post, gateway.url + CHAT, json={**BODY, "model": "base"}, timeout=60)
            wait_until(lambda: [w.in_flight for w in store.control.fleet.workers()] == [{"base": 1}])
            assert gateway.metric('turnout_in_flight{adapter="base"}') == 1
            engine.close_connections()
        wait_until(lambda: [w.in_flight for w in store.control.fleet.workers()] == [{}])
        (worker,) = store.control.fleet.workers()
        assert worker.applied_generation == store.control.generation()
        gateway.server.should_exit = True
        wait_until(lambda: store.control.fleet.workers() == [])


def test_a_table_is_swapped_under_traffic(tmp_path: Path) -> None:
    """While a route flips to and fro, every answer is whole and comes from a version that was meant."""
    with fake_engine.start() as engine, running(settings_for(tmp_path)) as gateway:
        store = gateway.store
        store.engines({"e0": engine})
        for _ in range(2):
            engine.register(store.version("support"))
        store.attest("e0", engine, "support@1", "support@2")
        store.route("support", {"support@1": 1.0})
        gateway.settle()
        seen: list[tuple[int, str, str]] = []

        def ask(_: int) -> None:
            answer = httpx.post(gateway.url + CHAT, json=BODY)
            seen.append((answer.status_code, answer.headers["x-turnout-adapter"], answer.json()["model"]))

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(ask, number) for number in range(60)]
            for number in range(6):
                store.route("support", {f"support@{2 - number % 2}": 1.0})
                gateway.settle()
            for future in asked:
                future.result()
        assert {status for status, _, _ in seen} == {200}
        assert all(meant == answered for _, meant, answered in seen)
        assert gateway.metric("turnout_table_generation") == store.control.generation()


def test_a_store_that_goes_away_does_not_stop_serving(tmp_path: Path) -> None:
    """While the control store is locked or broken requests are served from the last table, and it is told."""
    with fake_engine.start() as engine, running(settings_for(tmp_path)) as gateway:
        gateway.store.engines({"e0": engine})
        gateway.settle()
        with sqlite3.connect(tmp_path / "control.db", isolation_level=None) as vandal:
            vandal.execute("ALTER TABLE generations RENAME TO hidden")
            wait_until(lambda: gateway.ready()["store"] == "unreachable")
            answer = httpx.post(gateway.url + CHAT, json={**BODY, "model": "base"})
            assert answer.status_code == 200
            assert gateway.ready()["ready"] is True
            assert gateway.metric('turnout_store_errors_total{task="table"}') > 0
            vandal.execute("ALTER TABLE hidden RENAME TO generations")
        vandal.close()
        wait_until(lambda: gateway.ready()["store"] == "ok")


def test_drift_verdicts_are_metrics(tmp_path: Path) -> None:
    """The newest verdict of each route is exported with its figures."""
    with fake_engine.start() as engine, running(settings_for(tmp_path)) as gateway:
        gateway.store.engines({"e0": engine})
        figures = {
            "rows": {"reference": 500, "current": 200},
            "features": {
                "text": {"p_value": 0.01, "effect": 0.3},
                "length": {"p_value": None, "effect": 0.1},
            },
        }
        for at, verdict in ((10.0, "no_drift"), (20.0, "drift")):
            gateway.store.control.drift.add(DriftRow(at, "support", verdict, figures, None, None))
        expected = {
            'turnout_drift_detected{route="support"}': 1,
            'turnout_drift_checked_timestamp_seconds{route="support"}': 20,
            'turnout_drift_rows{route="support",window="current"}': 200,
            'turnout_drift_p_value{feature="text",route="support"}': 0.01,
            'turnout_drift_effect{feature="length",route="support"}': 0.1,
        }
        assert {name: gateway.metric(name) for name in expected} == expected


def test_requests_and_tokens_are_counted(rig: Rig) -> None:
    """A request counts by route, version, endpoint and status; an unresolved one under no name of its own."""
    served = (
        'turnout_requests_total{adapter="support@1",endpoint="chat/completions",route="support",status="200"}'
    )
    refused = 'turnout_requests_total{adapter="-",endpoint="chat/completions",route="-",status="404"}'
    tokens = 'turnout_completion_tokens_total{adapter="support@1",route="support"}'
    first_token = 'turnout_ttft_seconds_count{adapter="support@1",route="support"}'
    before = [rig.gateway.metric(name) for name in (served, refused, tokens, first_token)]
    rig.http.post(CHAT, json={**BODY, "stream": True})
    rig.http.post(CHAT, json={**BODY, "model": "nobody-knows-this"})
    after = [rig.gateway.metric(name) for name in (served, refused, tokens, first_token)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 4, 1]
    assert "nobody-knows-this" not in rig.http.get("/metrics").text


def test_nothing_is_left_after_a_storm_of_disconnects(rig: Rig) -> None:
    """Hundreds of requests with random disconnects leave no lease, no exchange and no task behind."""

    async def storm() -> None:
        async with httpx.AsyncClient(base_url=rig.gateway.url, timeout=60) as http:

            async def one(number: int) -> None:
                body = {**BODY, "stream": number % 2 == 0}
                try:
                    async with asyncio.timeout(0.002 * (number % 13) if number % 3 else None):
                        await http.post(CHAT, json=body)
                except (TimeoutError, httpx.HTTPError):
                    pass

            for _ in range(10):
                await asyncio.gather(*(one(number) for number in range(30)))

    for engine in rig.engines.values():
        engine.knobs.token_delay_s = 0.003
    tasks = len(asyncio.all_tasks(rig.gateway.loop))
    asyncio.run(storm())
    wait_until(lambda: rig.gateway.ready()["in_flight"] == 0)
    wait_until(lambda: all(engine.running == 0 for engine in rig.engines.values()))
    wait_until(lambda: rig.gateway.metric("turnout_queued_requests") == 0)
    wait_until(lambda: len(asyncio.all_tasks(rig.gateway.loop)) <= tasks)
    assert rig.http.post(CHAT, json=BODY).status_code == 200
