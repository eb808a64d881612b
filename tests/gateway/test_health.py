"""Health checks and re-registration against the fake engine."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.replicas.breaker import Circuit
from gateway.replicas.health import HealthChecks, Verdict
from gateway.replicas.pool import Pool
from gateway.replicas.registrar import Attested, Registrar
from gateway.replicas.replica import Replica
from gateway.telemetry import Telemetry
from gateway.upstream.answers import explain_refusal, incarnation_of, misses_model
from gateway.upstream.client import Client, Timeouts
from gateway.upstream.origin import Origin
from tests import fake_engine
from tests.fake_engine import FakeEngine

Work = Callable[[FakeEngine, Replica, Client, Pool], Awaitable[None]]


def play(work: Work) -> Telemetry:
    """Run `work` with one engine, a client and a pool that knows the engine as `e0`."""
    telemetry = Telemetry()

    async def whole(engine: FakeEngine) -> None:
        client = Client(Timeouts(connect_s=30.0))
        pool = Pool(limit_per_replica=4, max_queue=0, queue_timeout_s=1.0)
        pool.update({"e0": Origin.parse(engine.url)}, {"v@1": ("e0",)})
        try:
            await work(engine, pool.replicas[0], client, pool)
        finally:
            await client.aclose()

    with fake_engine.start() as engine:
        asyncio.run(whole(engine))
    return telemetry


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that a task is about to make true."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what is watched tells nobody
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ("none", Verdict.WELL),
        ("unhealthy", Verdict.SICK),
        ("dead", Verdict.SICK),
        ("silent", Verdict.SILENT),
    ],
)
def test_what_a_check_finds(fault: str, verdict: Verdict) -> None:
    """Only an answer in time shows that a replica lives; a bad one opens its circuit, a late one does not."""

    async def work(engine: FakeEngine, replica: Replica, client: Client, pool: Pool) -> None:
        engine.knobs.healthy = fault != "unhealthy"
        engine.knobs.health_delay_s = 5.0 if fault == "silent" else 0.0
        if fault == "dead":
            engine.die()
            await until(lambda: engine.dead)
        checks = HealthChecks(client, pool, Telemetry(), timeout_s=0.2 if fault == "silent" else 30.0)
        assert await checks.look_now(replica) is verdict
        assert replica.open is (verdict is Verdict.SICK)
        assert client.open_exchanges == 0

    play(work)


def test_a_replica_that_dies_and_comes_back() -> None:
    """The periodic checks open the circuit of a dead replica, and make it half open once it answers again."""

    async def work(engine: FakeEngine, replica: Replica, client: Client, pool: Pool) -> None:
        telemetry = Telemetry()
        checks = HealthChecks(client, pool, telemetry, interval_s=0.02, timeout_s=30.0)
        running = asyncio.create_task(checks.run())
        engine.die()
        await until(lambda: replica.open)
        engine.live_again()
        await until(lambda: replica.breaker.circuit is Circuit.HALF_OPEN)
        running.cancel()
        await until(lambda: checks.under_way == 0)
        failures = telemetry.registry.get_sample_value("turnout_health_failures_total", {"replica": "e0"})
        assert failures is not None
        assert failures >= 1

    play(work)


def test_what_is_wrong_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what is new: that a replica is ill, that of something else, and that it is well again."""

    async def work(engine: FakeEngine, replica: Replica, client: Client, pool: Pool) -> None:
        checks = HealthChecks(client, pool, Telemetry(), timeout_s=30.0)
        for healthy in (True, False, False, False, True, True, False):
            engine.knobs.healthy = healthy
            await checks.look_now(replica)
        engine.die()
        await until(lambda: engine.dead)
        for _ in range(3):
            await checks.look_now(replica)

    with caplog.at_level("INFO", logger="turnout.health"):
        play(work)
    said = [record.getMessage() for record in caplog.records if record.name == "turnout.health"]
    assert said[:3] == [
        "replica e0: /health answers 503",
        "replica e0 is well again",
        "replica e0: /health answers 503",
    ]
    assert len(said) == 4


def test_a_busy_replica_may_answer_late() -> None:
    """One check without an answer in time opens nothing; several in a row do."""

    async def work(engine: FakeEngine, replica: Replica, client: Client, pool: Pool) -> None:
        engine.knobs.health_delay_s = 5.0
        checks = HealthChecks(client, pool, Telemetry(), timeout_s=0.05)
        seen = []
        for _ in range(3):
            assert not await checks.well_lately(replica)
            await until(lambda: checks.under_way == 0)
            seen.append(replica.open)
        assert seen == [False, False, True]

    play(work)


# --- registering again ---------------------------------------------------------------------------------


def blob(folder: Path) -> str:
    """A folder that the fake engine takes for an adapter."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text('{"r": 8}')
    header = b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    return str(folder)


@pytest.mark.parametrize(
    ("case", "mended", "outcome"),
    [
        ("lost", True, "mended"),
        ("there after all", True, "mended"),
        ("restarted", False, "restarted"),
        ("not attested", False, "not_attested"),
        ("files gone", False, "failed"),
        ("dead", False, "failed"),
    ],
)
def test_a_missed_registration(tmp_path: Path, case: str, outcome: str, *, mended: bool) -> None:
    """What was attested on this incarnation is registered again from its path; nothing else is."""

    async def work(engine: FakeEngine, replica: Replica, client: Client, _pool: Pool) -> None:
        path = str(tmp_path / "none") if case == "files gone" else blob(tmp_path / "blob")
        known = None if case == "not attested" else Attested(engine.incarnation, path)
        if case == "there after all":
            engine.register("v@1")
        if case == "restarted":
            engine.restart()
        if case == "dead":
            engine.die()
            await until(lambda: engine.dead)
        telemetry = Telemetry()
        heard: list[tuple[str, str]] = []
        registrar = Registrar(
            client,
            lambda *_: known,
            telemetry,
            on_mended=lambda replica, label: heard.append((replica, label)),
        )
        assert await asyncio.gather(*(registrar.mend(replica, "v@1") for _ in range(5))) == [mended] * 5
        assert len(engine.posts("/v1/load_lora_adapter")) <= 1
        assert (engine.adapters == ["v@1"]) is mended
        assert heard == ([("e0", "v@1")] if case == "lost" else [])  # a proof is asked for
        counted = telemetry.registry.get_sample_value(
            "turnout_registrations_mended_total", {"outcome": outcome}
        )
        assert counted == 1
        # At once a second time, after a failure: not tried again.
        assert await registrar.mend(replica, "v@1") is mended
        await until(lambda: registrar.under_way == 0)

    play(work)


def test_what_engines_say() -> None:
    """Refusals and the incarnation are read in every form that engines write them in."""
    unknown = (
        b'{"error": {"message": "The model `v@1` does not exist.", "type": "NotFoundError", "code": 404}}'
    )
    old = b'{"object": "error", "message": "The model `v@1` does not exist.", "param": "model"}'
    assert misses_model(unknown, "v@1")
    assert misses_model(old, "v@1")
    assert not misses_model(unknown, "w@1")
    assert not misses_model(b'{"detail": "Not Found"}', "v@1")
    assert not misses_model(b"<html>", "v@1")
    assert explain_refusal(old) == ("The model `v@1` does not exist.", "model")
    assert explain_refusal(b"[]")[0] == "the engine refused the request"
    assert incarnation_of(b"# TYPE x\nprocess_start_time_seconds 1.7e+09\n") == "1.7e+09"
    assert incarnation_of(b"process_start_time_seconds{} 5\r\n") == "5"
    assert incarnation_of(b"other 1\n") is None
