"""The controller against a fake engine: from a version to an active route, and every fault on the way."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.core.canary import Canary
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec
from gateway.store.fleet import WorkerRow
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House

pytestmark = pytest.mark.slow

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One engine."""
    with fake_engine.start() as engine:
        yield engine


@pytest.fixture
def house(tmp_path: Path, engine: FakeEngine) -> Iterator[House]:
    """A house with one engine."""
    house = House(tmp_path, engine)
    yield house
    house.database.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed versions are tried again without a pause."""
    monkeypatch.setattr("gateway.controller.reconcile.RETRY_FIRST_S", 0.0)


def test_a_new_version_is_registered_attested_and_routed(house: House, engine: FakeEngine) -> None:
    """One turn takes a first version from the registry to an active route, with the figures of its proof."""
    ref = house.add("support", seed=1)
    house.turns()
    assert engine.adapters == ["support@1"]
    (row,) = house.rows(ref)
    assert (row.state, row.incarnation) == ("attested", engine.incarnation)
    assert row.figures is not None
    assert row.figures["probes"] == 6
    assert row.figures["distance_to_base"] > 0.02
    status = house.route("support").status
    assert (status.state, status.reason, house.arms("support")) == ("active", None, ["support@1"])
    assert status.active_generation == house.route("support").generation
    (replica,) = house.store.fleet.replicas()
    assert replica.healthy
    assert replica.capacity["max_loras"] == 4


def test_nothing_changes_when_all_is_well(house: House, engine: FakeEngine) -> None:
    """A settled fleet costs no generation, no event and no load."""
    house.add("support", seed=1)
    house.turns(2)
    generation, loads = house.store.generation(), len(engine.posts(LOAD))
    house.turns(3)
    assert (house.store.generation(), len(engine.posts(LOAD))) == (generation, loads)


def test_a_swap_flips_once_and_keeps_the_old_version_ready(house: House, engine: FakeEngine) -> None:
    """The route moves to the new version in one event; the old one stays registered for a rollback."""
    house.add("support", seed=1)
    house.turns()
    house.add("support", seed=2)
    house.put("support", "support@2")
    house.turns()
    assert house.arms("support") == ["support@2"]
    assert sorted(engine.adapters) == ["support@1", "support@2"]
    flips = [event for event in house.store.events.rows("support") if event.action == "route.flip"]
    assert len(flips) == 2


def test_a_restarted_engine_gets_its_adapters_back_before_they_count(
    house: House, engine: FakeEngine
) -> None:
    """After a restart no version counts as attested until the new incarnation has proved it."""
    ref = house.add("support", seed=1)
    house.turns()
    engine.restart()
    engine.knobs.fail_status = 503
    house.turns()
    assert engine.adapters == ["support@1"]
    assert house.states(ref) == {"replica-0": "registered"}
    assert house.rows(ref)[0].incarnation == engine.incarnation
    assert house.route("support").status.reason == "support@1 is ready on no replica"
    engine.knobs.fail_status = None
    house.turns()
    assert house.states(ref) == {"replica-0": "attested"}
    status = house.route("support").status
    assert (status.state, status.reason) == ("active", None)


def test_an_adapter_unloaded_behind_our_back_is_registered_again(house: House, engine: FakeEngine) -> None:
    """The engine's list is believed, not the row."""
    ref = house.add("support", seed=1)
    house.turns()
    httpx.post(engine.url + UNLOAD, json={"lora_name": "support@1"})
    house.turns()
    assert engine.adapters == ["support@1"]
    assert house.states(ref) == {"replica-0": "attested"}


def test_another_path_under_the_name_is_replaced(house: House, engine: FakeEngine) -> None:
    """A name that the engine holds with another path is unloaded and loaded from ours."""
    ref = house.add("support", seed=1)
    engine.register("support@1", "/elsewhere")
    house.turns()
    cards = httpx.get(engine.url + "/v1/models").json()["data"]
    assert {card["id"]: card["root"] for card in cards}["support@1"] == str(house.blob(ref))
    assert house.states(ref) == {"replica-0": "attested"}


def test_an_adapter_that_was_loaded_before_a_crash_is_adopted(house: House, engine: FakeEngine) -> None:
    """A version that is loaded from our path without a row is attested without loading it again."""
    ref = house.add("support", seed=1)
    httpx.post(engine.url + LOAD, json={"lora_name": "support@1", "lora_path": str(house.blob(ref))})
    house.turns()
    assert len(engine.posts(LOAD)) == 1
    assert house.states(ref) == {"replica-0": "attested"}


@pytest.mark.usefixtures("at_once")
def test_an_adapter_that_answers_like_the_base_is_caught(house: House, engine: FakeEngine) -> None:
    """A version that is loaded but not applied fails; its route keeps its old arms, and recovers."""
    house.add("support", seed=1)
    house.turns()
    ref = house.add("support", seed=2)
    house.put("support", "support@2")
    engine.knobs.unapplied = {"support@2"}
    house.turns(3)
    assert house.states(ref) == {"replica-0": "failed"}
    status = house.route("support").status
    assert status.state == "failed"
    assert "answers like the base model" in (status.reason or "")
    assert house.arms("support") == ["support@1"]
    figures = house.rows(ref)[0].figures
    assert figures is not None
    assert (figures["distance_to_base"], figures["attempts"]) == (0.0, 3)
    assert len(house.store.events.rows("support@2")) == 2  # added, failed: not one for every attempt
    engine.knobs.unapplied = set()
    house.turns()
    assert house.arms("support") == ["support@2"]


def test_an_answer_under_another_name_is_caught(house: House, engine: FakeEngine) -> None:
    """The engine's echo of the model must be the version."""
    ref = house.add("support", seed=1)
    engine.knobs.answer_as_base = True
    house.turns()
    assert "answered as" in (house.rows(ref)[0].reason or "")
    assert house.arms("support") == []


def test_a_proof_is_repeated_on_schedule(house: House, engine: FakeEngine) -> None:
    """A version that stops being applied later is found by the next proof, and its route says so."""
    ref = house.add("support", seed=1)
    house.turns(2, attest_every_s=1e-9)
    engine.knobs.unapplied = {"support@1"}
    house.turns(attest_every_s=1e-9)
    assert house.states(ref) == {"replica-0": "failed"}
    status = house.route("support").status
    assert (status.state, house.arms("support")) == ("active", ["support@1"])
    assert "answers like the base model" in (status.reason or "")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("cut", "do not have its digest"),
        ("gone", "gone from the registry"),
    ],
)
def test_a_damaged_blob_never_reaches_an_engine(
    house: House, engine: FakeEngine, damage: str, reason: str
) -> None:
    """A blob that is cut or gone fails with a reason and without a call; other versions go on."""
    ref = house.add("support", seed=1)
    weights = house.blob(ref) / "adapter_model.safetensors"
    weights.chmod(0o644)
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-3])
    else:
        weights.unlink()
    good = house.add("other", seed=2)
    house.turns()
    assert [request.json["lora_name"] for request in engine.posts(LOAD)] == ["other@1"]
    assert reason in (house.rows(ref)[0].reason or "")
    assert house.route("support").status.state == "failed"
    assert house.states(good) == {"replica-0": "attested"}


def test_a_blob_that_is_damaged_later_takes_its_version_out(house: House, engine: FakeEngine) -> None:
    """The next proof looks at the blob first, for the engine reads it again after an eviction."""
    ref = house.add("support", seed=1)
    house.turns()
    weights = house.blob(ref) / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    probes = len(engine.posts("/v1/completions"))
    house.turns(attest_every_s=1e-9)
    assert house.states(ref) == {"replica-0": "failed"}
    assert len(engine.posts("/v1/completions")) == probes


def test_an_engines_refusal_is_told_without_paths(house: House, engine: FakeEngine, tmp_path: Path) -> None:
    """What the engine says of a load it refused stands in the reason, but no path of the machine does."""
    engine._max_lora_rank = 4
    ref = house.add("support", seed=1)
    house.turns()
    reason = house.rows(ref)[0].reason or ""
    assert "LoRA rank 8 is greater than max_lora_rank 4" in reason
    assert str(tmp_path) not in reason


def test_a_route_to_nothing_fails_with_a_reason(house: House) -> None:
    """A version that does not exist or is retired fails the route, which keeps its arms."""
    house.add("support", seed=1)
    house.turns()
    house.put("support", "support@9")
    house.turns()
    status = house.route("support").status
    assert (status.state, status.reason) == ("failed", "support@9 does not exist")
    retired = house.add("support", seed=2)
    house.store.versions.retire(retired, actor="test")
    house.put("support", "support@2")
    house.turns()
    assert house.route("support").status.reason == "support@2 is retired"
    assert house.arms("support") == ["support@1"]


def test_a_route_to_the_base_needs_a_healthy_engine(house: House, engine: FakeEngine) -> None:
    """An arm that is the base model is ready as soon as one engine is."""
    house.put("plain", "base")
    engine.dead = True
    house.turns()
    assert house.route("plain").status.reason == "no engine is healthy"
    engine.dead = False
    house.turns()
    assert house.arms("plain") == ["base"]


def test_a_canary_waits_for_its_candidate(house: House) -> None:
    """A spec whose candidate is not there takes nothing away from the arms of before."""
    house.add("support", seed=1)
    house.turns()
    spec = RouteSpec(arms=(Arm(adapter="support@1", share=1),), canary=Canary(candidate="support@2"))
    house.store.routes.put("support", spec, actor="test")
    house.turns()
    status = house.route("support").status
    assert (status.state, status.reason, status.canary) == ("failed", "support@2 does not exist", None)
    assert house.arms("support") == ["support@1"]
    house.add("support", seed=2)
    house.turns()
    status = house.route("support").status
    assert [arm.share for arm in status.effective_arms] == [0.95, 0.05]
    assert (status.canary_step, status.canary and status.canary.state) == (1, "running")


def test_a_retired_version_leaves_the_engine_when_workers_are_done(house: House, engine: FakeEngine) -> None:
    """First its row goes, then its name; each when every worker has applied that and has none in flight."""
    house.add("support", seed=1)
    house.turns()
    second = house.add("support", seed=2)
    house.put("support", "support@2")
    house.turns()
    fleet = house.store.fleet

    def beat(generation: int, in_flight: int, seen_at: float) -> None:
        fleet.beat(WorkerRow("w", generation, {"support@1": in_flight}, seen_at))

    async def work() -> None:
        async with httpx.AsyncClient() as http:
            controller = house.controller(http)
            both = [second, VersionRef("support", 1)]
            for state, generation, in_flight, rows in [
                ("waits for the table", house.store.generation(), 1, both),
                ("waits for a request", None, 1, both),
                ("row goes", None, 0, [second]),
                ("waits for the table", house.store.generation(), 0, [second]),
                ("waits for a request", None, 1, [second]),
            ]:
                if state == "waits for the table" and rows == both:
                    house.store.versions.retire(VersionRef("support", 1), actor="test")
                    beat(generation, in_flight, time.time())
                elif generation is None:
                    beat(house.store.generation(), in_flight, time.time())
                await controller.turn()
                assert sorted(row.ref for row in house.rows()) == sorted(rows), state
                assert "support@1" in engine.adapters, state
            beat(house.store.generation(), 0, time.time())
            await controller.turn()
            assert engine.adapters == ["support@2"]

    asyncio.run(work())


def test_a_retired_version_stays_while_a_route_serves_it(house: House, engine: FakeEngine) -> None:
    """Retiring what still answers traffic takes nothing away from that traffic."""
    ref = house.add("support", seed=1)
    house.turns()
    house.store.versions.retire(ref, actor="test")
    house.turns(2)
    assert engine.adapters == ["support@1"]
    assert house.states(ref) == {"replica-0": "attested"}


def test_leftovers_are_unregistered(house: House, engine: FakeEngine) -> None:
    """A name on the engine that is no active version goes."""
    engine.register("old@7")
    engine.register("by-hand")
    house.turns()
    assert engine.adapters == []


def test_slots_are_filled_with_the_newest(house: House, engine: FakeEngine) -> None:
    """Beyond what routes need, only as many versions are registered as the engine has slots."""
    for seed in range(1, 6):
        house.add("support", seed=seed)
    house.turns(2, slots=3)
    assert sorted(engine.adapters) == ["support@1", "support@4", "support@5"]
