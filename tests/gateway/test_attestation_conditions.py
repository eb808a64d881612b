"""Proofs while an engine is quiet and while it is busy, on hardware that rounds another batch another way."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.controller.attestation.prober import GENERAL_PROMPTS, long_prompt
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.attestation_house import figures, row, turns_one_by_one
from tests.gateway.controller_house import House

pytestmark = pytest.mark.slow


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    """Two engines that round."""
    with fake_engine.start() as one, fake_engine.start() as two:
        one.knobs.rounding = two.knobs.rounding = 0.3
        yield one, two


@pytest.fixture
def house(tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]) -> Iterator[House]:
    """A house with both."""
    house = House(tmp_path, *engines)
    yield house
    house.database.close()


def test_a_quiet_engine_shows_small_faults(
    house: House, engines: tuple[FakeEngine, FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding that depends on the batch hides them while other requests run, and only then."""
    monkeypatch.setattr("gateway.controller.reconcile.RETRY_FIRST_S", 0.0)
    engines[1].knobs.swapped = {"support@1": house.source(1, kin="task", step=0.1)}
    ref = house.add("support", seed=1, kin="task")
    turns_one_by_one(house, engines)
    assert figures(house, ref)["engine"] == "quiet"
    assert row(house, ref, 1).reason == "it does not answer like replica-0, where it was attested first"
    engines[1].steps.running = 1
    house.turns()
    assert row(house, ref, 1).state == "attested"
    assert figures(house, ref, 1)["engine"] == "busy"


@pytest.mark.parametrize(
    ("split", "engine_was", "state"),
    [(2, "quiet", "failed"), (3, "busy", "attested")],
    ids=["twice", "always"],
)
def test_a_batch_that_is_taken_apart_is_asked_again(
    house: House, engines: tuple[FakeEngine, FakeEngine], split: int, engine_was: str, state: str
) -> None:
    """Which prompts share a step is the engine's affair: after three times it is as good as busy."""
    ref = house.add("support", seed=1, kin="task")
    house.turns()
    engine = engines[1]

    def apart() -> None:
        engine.knobs.swapped = {"support@1": house.source(1, kin="task", step=0.1)}
        engine.knobs.split_batches = split

    house.turns_around(apart, attest_every_s=1e-9)
    assert row(house, ref, 1).state == state
    assert figures(house, ref, 1)["engine"] == engine_was


def test_what_caching_does_to_the_last_places_is_no_stale_cache(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """Where cached blocks are rounded in another way, the version's own cache says how, once."""
    engine = engines[0]
    ref = house.add("support", seed=1, kin="task")
    house.turns(4, attest_every_s=1e-9)
    assert row(house, ref).state == "attested"
    long = long_prompt(16, GENERAL_PROMPTS)
    bodies = [request.json for request in engine.posts("/v1/completions")]
    asked = [body for body in bodies if long in body["prompt"]]
    company = [len(body["prompt"]) for body in asked if "cache_salt" in body]
    salts = [body.get("cache_salt") for body in asked]
    assert company == [1, 1, 1]
    assert [salt is None for salt in salts] == [False, True, True, False, False, True, True]
    assert salts[3] == salts[4] != salts[0]


def test_what_is_remembered_of_a_busy_engine_is_no_measure_for_a_quiet_one(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """The same weights under another name are asked anew before their cache counts as stale."""
    engine = engines[0]
    engine.steps.running = 1
    first = house.add("support", seed=1, kin="task")

    def quiet() -> None:
        engine.steps.running = 0
        house.add("twin", seed=1, kin="task")

    house.turns_around(quiet)
    assert figures(house, first)["engine"] == "busy"
    twin = replace(first, name="twin")
    assert (row(house, twin).state, figures(house, twin)["engine"]) == ("attested", "quiet")
