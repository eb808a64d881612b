"""What an agent answers over HTTP, and what a controller makes of it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway.agent.figures import OUTCOMES
from gateway.agent.main import engine_incarnation
from gateway.agent.server import build
from gateway.cli.main import build_app
from gateway.controller.agents import Agents, BlobUnderWay
from tests.gateway.agent.places import Place

KEY = "agent-key"
AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A machine with an agent."""
    made = Place(tmp_path)
    yield made
    made.cache.close()


def ask(place: Place, method: str, path: str, *, said: bytes | None = None, **what: Any) -> httpx.Response:
    """Call the agent's app; `said` is what the engine's metrics say."""

    async def work() -> httpx.Response:
        app = build(place.cache, key=KEY, max_bytes=100, metrics=lambda: said)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
            return await http.request(method, path, **what)

    return asyncio.run(work())


def test_a_blob_is_asked_for(place: Place) -> None:
    """At first it is on its way, then whole, and then it is in the list."""
    name = place.publish(0)
    wanted: dict[str, Any] = {"json": {"incarnation": "1.0"}, "headers": AUTH}
    assert ask(place, "PUT", f"/v1/blobs/{name}", **wanted).json()["state"] == "fetching"
    place.settled(name)
    assert ask(place, "PUT", f"/v1/blobs/{name}", **wanted).json()["state"] == "whole"
    page = ask(place, "GET", "/v1/blobs", headers=AUTH).json()
    assert [row["digest"] for row in page["data"]] == [f"sha256:{name}"]
    assert (page["bytes"] > 0, page["max_bytes"], page["free_bytes"] > 0) == (True, 100, True)
    assert ask(place, "GET", "/healthz").status_code == 200


def test_the_engine_s_metrics(place: Place) -> None:
    """They are passed on as they are, without a key; none is a 503, which Prometheus tells from nothing."""
    answer = ask(place, "GET", "/metrics", said=b"vllm:x 1\n")
    assert (answer.status_code, answer.text) == (200, "vllm:x 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert ask(place, "GET", "/metrics").status_code == 503


def test_its_own_metrics(place: Place) -> None:
    """How bringing blobs ended, what came, and what room there is, without a key and without the engine."""

    def figure(line: str) -> float:
        text = ask(place, "GET", "/agent/metrics").text
        return next(float(each.rsplit(" ", 1)[1]) for each in text.splitlines() if each.startswith(line))

    ends = {outcome: f'turnout_agent_syncs_total{{outcome="{outcome}"}}' for outcome in OUTCOMES}
    assert [figure(end) for end in ends.values()] == [0.0] * len(OUTCOMES)
    assert figure("turnout_agent_last_success_timestamp_seconds") == 0
    name = place.publish(0)
    place.settled(name)
    size = sum(len(content) for content in place.files(name).values())
    place.settled("ab" * 32)
    place.bucket.fails_after = place.bucket.given
    place.settled(place.publish(1))
    assert (figure(ends["fetched"]), figure(ends["missing"]), figure(ends["bucket"])) == (1, 1, 1)
    assert figure("turnout_agent_fetched_bytes_total") == size
    assert figure("turnout_agent_last_success_timestamp_seconds") == place.now
    assert (figure("turnout_agent_blobs "), figure("turnout_agent_blob_bytes")) == (1, size)
    assert figure("turnout_agent_fetching_blobs") == 0
    assert figure("turnout_agent_max_bytes") == place.max_bytes
    assert figure("turnout_agent_disk_free_bytes") > 0
    place.cache.close()
    place.start()
    place.settled(name)
    assert (figure(ends["found"]), figure("turnout_agent_fetched_bytes_total")) == (1, 0)


@pytest.mark.parametrize(
    ("path", "what", "status"),
    [
        (f"/v1/blobs/{'ab' * 32}", {"json": {"incarnation": "1"}}, 401),
        (
            f"/v1/blobs/{'ab' * 32}",
            {"json": {"incarnation": "1"}, "headers": {"Authorization": "Bearer x"}},
            401,
        ),
        (f"/v1/blobs/{'ab' * 32}", {"content": b"{", "headers": AUTH}, 400),
        (f"/v1/blobs/{'ab' * 32}", {"json": {"incarnation": 3}, "headers": AUTH}, 400),
        (f"/v1/blobs/{'ab' * 32}", {"json": {"incarnation": "1" * 65}, "headers": AUTH}, 400),
        (f"/v1/blobs/{'ab' * 32}", {"content": bytes(5000), "headers": AUTH}, 400),
        ("/v1/blobs/..", {"json": {"incarnation": "1"}, "headers": AUTH}, 404),
        (f"/v1/blobs/{'AB' * 32}", {"json": {"incarnation": "1"}, "headers": AUTH}, 400),
        ("/v1/blobs/%2e%2e%2fx", {"json": {"incarnation": "1"}, "headers": AUTH}, 404),
    ],
)
def test_what_it_refuses(place: Place, path: str, what: dict[str, Any], status: int) -> None:
    """No other key, nothing that is no digest, no body without an incarnation."""
    assert ask(place, "PUT", path, **what).status_code in {status, 404 if status == 400 else status}
    assert place.bucket.asked == 0


def test_a_note_that_can_t_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the blob may be let go too early, so it must not be loaded: 503, and nothing is fetched."""

    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place.cache._marks, "_write", refuse)
    answer = ask(place, "PUT", f"/v1/blobs/{place.publish(0)}", json={"incarnation": "1"}, headers=AUTH)
    assert (answer.status_code, place.bucket.asked) == (503, 0)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (httpx.Response(200, json={"state": "whole"}), None),
        (httpx.Response(200, json={"state": "failed", "reason": "no room"}), "no room"),
        (httpx.Response(401, json={}), "another key"),
        (httpx.Response(200, json={"state": "fetching", "done_bytes": 3, "total_bytes": None}), BlobUnderWay),
        (httpx.Response(503, json={}), BlobUnderWay),
        (httpx.Response(200, text="<html>"), BlobUnderWay),
        (httpx.Response(200, json=[]), BlobUnderWay),
        (httpx.ConnectError("gone"), BlobUnderWay),
        (httpx.ReadTimeout("slow"), BlobUnderWay),
    ],
)
def test_what_a_controller_makes_of_it(answer: Any, meaning: Any) -> None:
    """Only a whole blob is loaded; one that may come is waited for, and nothing is held against it."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def work() -> str | None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            agents = Agents(http, port=8100, key=KEY)
            return await agents.fault("http://[::1]:8000", "sha256:ab", "1.0", permit=lambda: None)

    if meaning is BlobUnderWay:
        with pytest.raises(BlobUnderWay):
            asyncio.run(work())
    elif meaning is None:
        assert asyncio.run(work()) is None
    else:
        assert meaning in (asyncio.run(work()) or "")
    assert str(seen[0].url) == "http://[::1]:8100/v1/blobs/ab"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_lease_is_checked_first() -> None:
    """A controller that is no longer effective asks no agent for anything."""

    class Lost(Exception):
        pass

    def lost() -> None:
        raise Lost

    async def work() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(_never)) as http:
            await Agents(http, port=1, key=None).fault("http://e", "sha256:ab", "1", permit=lost)

    with pytest.raises(Lost):
        asyncio.run(work())


def _never(_: httpx.Request) -> httpx.Response:
    raise AssertionError


@pytest.mark.parametrize(
    ("handle", "incarnation"),
    [
        (lambda _: httpx.Response(200, text="x 1\nprocess_start_time_seconds 17.5\n"), "17.5"),
        (lambda _: httpx.Response(200, text="x 1\n"), None),
        (lambda _: httpx.Response(503, text="process_start_time_seconds 17.5\n"), None),
    ],
)
def test_which_process_the_engine_is(
    handle: Callable[[httpx.Request], httpx.Response], incarnation: str | None
) -> None:
    """It is read where controllers read it; an engine that is not up says nothing."""
    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        assert engine_incarnation(http, "http://127.0.0.1:8000/") == incarnation


def test_an_open_agent_needs_a_key() -> None:
    """Reached from elsewhere, it refuses to start without one."""
    line = ["agent", "--registry", "s3://b/p", "--root", "/tmp/x", "--host", "0.0.0.0"]  # noqa: S104, S108 - it never starts
    result = CliRunner().invoke(build_app(), line, env={"TURNOUT_ENGINE__AGENT_KEY": ""})
    assert (result.exit_code, "TURNOUT_ENGINE__AGENT_KEY" in result.stderr) == (1, True)
