"""Fallbacks: what answers for an arm that no replica serves, and whose fault it is."""

import httpx
import pytest

from tests.fake_engine import BASE_MODEL
from tests.gateway.conftest import Rig
from tests.gateway.test_completions import CHAT, chat, events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def careful(module_rig: Rig) -> None:
    """The rig with routes to `lost@1`, which stands nowhere, each with another fallback."""
    store = module_rig.gateway.store
    for name, fallback in (
        ("careful", "support@1"),
        ("plain", "base"),
        ("hopeless", "lost@1"),
        ("bare", None),
    ):
        store.route(name, {"lost@1": 1.0}, fallback=fallback, capture={"mode": "full"})
    module_rig.gateway.settle()


@pytest.mark.parametrize(
    ("route", "label", "model"), [("careful", "support@1", "support@1"), ("plain", "base", BASE_MODEL)]
)
def test_a_fallback_answers_and_says_so(rig: Rig, route: str, label: str, model: str) -> None:
    """The headers name who answered and for whom; the row keeps the arm that was assigned."""
    answer = rig.http.post(CHAT, json=chat(model=route))
    assert (answer.status_code, answer.json()["model"]) == (200, model)
    said = {name: answer.headers[f"x-turnout-{name}"] for name in ("route", "arm", "adapter", "fallback")}
    assert said == {"route": route, "arm": "lost@1", "adapter": label, "fallback": "true"}
    row = rig.gateway.row(answer.headers["x-request-id"])
    assert (row.status, row.route, row.arm, row.adapter) == (200, route, "lost@1", label)
    assert row.completion_tokens == 4
    rig.idle()


def test_a_fallback_streams(rig: Rig) -> None:
    """Usage that only the gateway asked for stays hidden, as in any stream."""
    answer = rig.http.post(CHAT, json=chat(model="careful", stream=True))
    assert answer.headers["x-turnout-fallback"] == "true"
    told = events(answer)
    assert told[-1] == "[DONE]"
    assert all(event["model"] == "support@1" and event["choices"] for event in told[:-1])
    assert rig.gateway.row(answer.headers["x-request-id"]).completion_tokens == 4


@pytest.mark.parametrize("route", ["hopeless", "bare"])
def test_without_another_version_there_is_an_error(rig: Rig, route: str) -> None:
    """A route that names no fallback, or the missing version itself, answers 503."""
    answer = rig.http.post(CHAT, json=chat(model=route))
    assert answer.status_code == 503
    assert "x-turnout-fallback" not in answer.headers
    assert rig.gateway.row(answer.headers["x-request-id"]).adapter == "lost@1"


def test_a_request_that_was_sent_is_not_the_fallbacks(rig: Rig) -> None:
    """An engine that fails with the version that was assigned is an error, and goes nowhere else."""
    for engine in rig.engines.values():
        engine.knobs.fail_status = 500
    answer = rig.http.post(CHAT, json=chat(model="support"))
    assert answer.status_code == 502
    assert "x-turnout-fallback" not in answer.headers


def test_it_is_counted(rig: Rig) -> None:
    """Each is counted by the version that was not there."""
    before = _count(rig.http)
    rig.http.post(CHAT, json=chat(model="careful"))
    assert _count(rig.http) == before + 1


def _count(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    name = 'turnout_fallbacks_total{adapter="lost@1"} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))
