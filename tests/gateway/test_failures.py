"""Engines that die, come back or forget: who is refused, who is served, and that others learn of it."""

import concurrent.futures
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.refs import VersionRef
from gateway.replicas.breaker import Circuit
from gateway.settings import Settings
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.harness import DIGEST, Gateway, running, settings_for, wait_until
from tests.gateway.test_health import blob

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


def asking(text: str, model: str = "support", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


@dataclass(frozen=True)
class House:
    """A gateway in front of engines `e0` and `e1`, which a test may kill. `support@1` is on both."""

    settings: Settings
    gateway: Gateway
    engines: dict[str, FakeEngine]
    http: httpx.Client

    def first(self, name: str) -> None:
        """Make `name` the next request's first choice."""
        self.gateway.app.state.gateway.pool._turn = 1 if name == "e0" else 0

    def circuit(self, name: str) -> Circuit:
        replicas = self.gateway.app.state.gateway.pool.replicas
        return next(replica.breaker.circuit for replica in replicas if replica.id == name)

    def code(self, answer: httpx.Response) -> tuple[int, str | None]:
        return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Small places and a queue, so that requests can wait."""
    limits = {
        "max_in_flight_per_replica": 2,
        "max_queue": 8,
        "queue_timeout_s": 10.0,
        "connect_timeout_s": 1.0,
    }
    settings = settings_for(tmp_path / "state", limits=limits)
    with (
        fake_engine.start() as first,
        fake_engine.start() as second,
        running(settings) as gateway,
        httpx.Client(base_url=gateway.url, timeout=20) as http,
    ):
        engines = {"e0": first, "e1": second}
        store = gateway.store
        store.engines(engines)
        label = store.version("support")
        for name, engine in engines.items():
            engine.register(label)
            store.attest(name, engine, label)
        store.route("support", {label: 1.0})
        gateway.settle()
        yield House(settings, gateway, engines, http)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_kills_its_engine_kills_one(house: House, *, stream: bool) -> None:
    """It is not sent to the next engine, refused the second time, and nobody who had not started fails."""
    for engine in house.engines.values():
        engine.knobs.killer = "die"
        engine.knobs.start_delay_s = 0.2
    killer = asking("please die", stream=stream)
    house.first("e0")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        killed = threads.submit(house.http.post, CHAT, json=killer)
        wait_until(lambda: house.engines["e0"].dead)
        others = [threads.submit(house.http.post, CHAT, json=asking(f"hello {i}")) for i in range(6)]
        assert house.code(killed.result()) == (502, "replica_died")
        again = house.http.post(CHAT, json={**killer, "stream": stream})
        assert house.code(again) == (422, "query_of_death")
        assert "retry-after" not in again.headers
        assert {other.result().status_code for other in others} == {200}
    assert not house.engines["e1"].dead
    assert house.gateway.metric("turnout_quarantined_total") == 1
    assert house.gateway.metric('turnout_replica_deaths_total{replica="e0"}') == 1
    assert house.gateway.metric('turnout_replica_circuit{replica="e0"}') == 2
    row = house.gateway.row(again.headers["x-request-id"])
    assert (row.status, row.error_code, row.attempts) == (422, "query_of_death", 0)
    found: list[Any] = []
    wait_until(lambda: bool(found.extend(house.gateway.store.control.events.rows("e0")) or found))
    assert (found[0].action, found[0].actor) == ("replica.died", "gateway")


def test_other_workers_refuse_it_too(house: House) -> None:
    """A worker that has never seen the request refuses it as soon as it reads the store."""
    house.engines["e0"].knobs.killer = "die"
    house.first("e0")
    with running(house.settings) as other, httpx.Client(base_url=other.url, timeout=20) as there:
        assert house.code(house.http.post(CHAT, json=asking("die"))) == (502, "replica_died")
        quarantine = other.app.state.gateway.quarantine
        wait_until(lambda: not quarantine.empty)
        assert house.code(there.post(CHAT, json=asking("die"))) == (422, "query_of_death")
        assert there.post(CHAT, json=asking("live")).status_code == 200


def test_a_dead_engine_is_left_alone_until_it_is_back(house: House) -> None:
    """Requests go around a dead engine; once it is well again one tries it, and then all may."""
    dead = house.engines["e0"]
    dead.die()
    for _ in range(4):
        assert house.http.post(CHAT, json=asking("x")).status_code == 200
    wait_until(lambda: house.circuit("e0") is Circuit.OPEN)
    dead.live_again()
    dead.register("support@1")
    wait_until(lambda: house.circuit("e0") is Circuit.HALF_OPEN, 20)

    def served_by_both() -> bool:
        assert house.http.post(CHAT, json=asking("x")).status_code == 200
        return house.circuit("e0") is Circuit.CLOSED

    wait_until(served_by_both)
    assert dead.posts()


def test_with_every_engine_dead_requests_fail_fast(house: House) -> None:
    """Nobody waits for engines that are all gone: 503 with Retry-After, and nothing is tried."""
    for engine in house.engines.values():
        engine.die()
    wait_until(lambda: all(house.circuit(name) is Circuit.OPEN for name in house.engines))
    answer = house.http.post(CHAT, json=asking("x"))
    assert house.code(answer) == (503, "circuit_open")
    assert answer.headers["retry-after"] == "1"
    assert house.gateway.row(answer.headers["x-request-id"]).attempts == 0


def test_engines_that_fail_without_dying(house: House) -> None:
    """Failures in a row open the circuits; nobody is called dead, and no request is refused for it."""
    for engine in house.engines.values():
        engine.knobs.fail_status = 500
    codes: set[tuple[int, str | None]] = set()

    def failing_fast() -> bool:
        codes.add(house.code(house.http.post(CHAT, json=asking("x"))))
        return (503, "circuit_open") in codes

    wait_until(failing_fast)
    assert codes == {(502, "upstream_failed"), (503, "circuit_open")}
    assert house.gateway.metric('turnout_replica_deaths_total{replica="e0"}') == 0
    assert house.gateway.metric('turnout_circuit_opened_total{replica="e0"}') >= 1


def test_broken_connections_alone_refuse_nobody(house: House) -> None:
    """With every circuit opened by connections that broke on living engines, requests go on being sent."""
    for engine in house.engines.values():
        engine.knobs.close_before_headers = True
    codes: set[tuple[int, str | None]] = set()

    def all_open() -> bool:
        codes.add(house.code(house.http.post(CHAT, json=asking("x"))))
        return all(house.circuit(name) is not Circuit.CLOSED for name in house.engines)

    wait_until(all_open)
    for engine in house.engines.values():
        engine.knobs.close_before_headers = False
    for _ in range(4):
        assert house.http.post(CHAT, json=asking("x")).status_code == 200
    assert codes == {(502, "upstream_failed")}
    assert house.gateway.metric('turnout_replica_deaths_total{replica="e0"}') == 0


def test_a_lost_registration_is_mended(house: House) -> None:
    """The engine's 404 for an attested adapter is answered by registering it again, on the same engine.

    And each time by a wish for a proof, since what was registered is to be proved.
    """
    folder = house.settings.blob_root / "blobs" / DIGEST.removeprefix("sha256:")
    folder.parent.mkdir(parents=True)
    blob(folder)
    engine = house.engines["e0"]
    for path in ("/v1/chat/completions", "/v1/completions"):
        engine._paths.pop("support@1")
        house.first("e0")
        body = asking("x") if "chat" in path else {"model": "support", "prompt": "x"}
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _, p=path, b=body: house.http.post(p, json=b), range(2)))
        assert {answer.status_code for answer in answers} == {200}
        assert engine.adapters == ["support@1"]
    assert {request.json["lora_path"] for request in engine.posts("/v1/load_lora_adapter")} == {str(folder)}
    rows = [house.gateway.row(answer.headers["x-request-id"]) for answer in answers]
    assert {(row.replica, row.attempts) for row in rows} == {("e0", 2), ("e1", 1)}
    assert house.gateway.metric('turnout_registrations_mended_total{outcome="mended"}') == 2
    control = house.gateway.store.control
    wait_until(lambda: len(control.events.rows("support@1")) == 3)  # it was added, and twice to be proved
    wish = control.events.rows("support@1")[0]
    assert (wish.action, wish.actor, wish.why) == ("adapter.verify", "gateway", "registered again on e0")
    assert control.attestations.asked() == {VersionRef("support", 1): wish.generation}


def test_a_restarted_engine_waits_for_the_controller(house: House) -> None:
    """An engine that restarted is never given traffic for what was attested on its predecessor."""
    folder = house.settings.blob_root / "blobs" / DIGEST.removeprefix("sha256:")
    folder.parent.mkdir(parents=True)
    blob(folder)
    engine = house.engines["e0"]
    engine.restart()
    house.first("e0")
    answer = house.http.post(CHAT, json=asking("x"))
    assert answer.status_code == 200
    assert house.gateway.row(answer.headers["x-request-id"]).replica == "e1"
    assert engine.posts()
    assert not engine.posts("/v1/load_lora_adapter")


def test_a_wrong_answer_raises_an_event(house: House) -> None:
    """The store has one event for it, however often it happens at once."""
    for engine in house.engines.values():
        engine.knobs.answer_as_base = True
    for _ in range(3):
        assert house.code(house.http.post(CHAT, json=asking("x"))) == (502, "wrong_model")
    events = house.gateway.store.control.events
    wait_until(lambda: bool(events.newest("adapter.wrong_model", since=0.0)))
    (event,) = events.newest("adapter.wrong_model", since=0.0)
    assert (event.actor, event.subject) == ("gateway", "support@1")
    assert event.why is not None
    assert "asked 'support@1', answered by 'SmolLM2-135M-Instruct'" in event.why


def test_retries_stay_within_their_budget(house: House) -> None:
    """When every engine is overloaded, retries end with the budget instead of doubling the load."""
    for engine in house.engines.values():
        engine.knobs.fail_status = 429
    answers = [house.http.post(CHAT, json=asking("x")) for _ in range(40)]
    assert {house.code(answer) for answer in answers} == {(429, "engine_busy")}
    retries = house.gateway.metric('turnout_retries_total{cause="busy"}')
    assert 20 <= retries <= 24  # the reserve, and a tenth of forty
    assert sum(len(engine.posts()) for engine in house.engines.values()) == 40 + retries
    assert house.gateway.metric("turnout_retries_denied_total") == 40 - retries
