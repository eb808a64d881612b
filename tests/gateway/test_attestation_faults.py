"""Every fault of attestation, injected into a fake engine and caught; and what honest engines may do."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from adapters.answers import distance
from adapters.manifest import Probe, Reference
from gateway.controller.attestation.prober import GENERAL_PROMPTS, long_prompt
from gateway.core.refs import VersionRef
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.fake_engine_http import Request
from tests.gateway.attestation_house import figures, row, turns_one_by_one
from tests.gateway.controller_house import House

pytestmark = pytest.mark.slow

PROMPTS = ("Is it good?", "Is it bad?", "Name the colour.", "Say yes or no.", "Once upon a", "2 + 2 =")
LOAD = "/v1/load_lora_adapter"
NOISE = 0.05


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    """Two engines."""
    with fake_engine.start() as one, fake_engine.start() as two:
        yield one, two


@pytest.fixture
def house(tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]) -> Iterator[House]:
    """A house with two engines."""
    house = House(tmp_path, *engines)
    yield house
    house.database.close()


def answers(weights: bytes | None, prompts: Sequence[str] = PROMPTS) -> list[dict[str, float]]:
    """What these weights say to each prompt, by token id."""
    tops = [fake_engine.first_logprobs(weights, prompt, 20) for prompt in prompts]
    return [{token.removeprefix("token_id:"): value for token, value in top.items()} for top in tops]


def reference(own: Path, *, made_on: str = "bitsandbytes-nf4", off: float = 0.0) -> Reference:
    """What training would record of the adapter in a folder; `off` is what its numbers differ by."""
    weights = fake_engine.read_weights(own)
    rows = zip(PROMPTS, answers(weights), answers(None), strict=True)
    return Reference(
        quantization=made_on,
        noise=NOISE,
        probes=tuple(
            Probe(
                prompt=prompt,
                top_logprobs={token: value - off for token, value in top.items()},
                base={token: value - off for token, value in base.items()},
            )
            for prompt, top, base in rows
        ),
    )


def add(house: House, seed: int, *, name: str = "support", kin: str | None = "task") -> VersionRef:
    """Publish a version as training does: with a reference. Versions of one kin are retrained neighbours."""
    folder = house.source(seed, kin=kin)
    return house.registry.add(name, folder, actor="test", reference=reference(folder))[0].ref


def test_what_is_asked_of_an_engine(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """Adapter and base get the same prompts in a batch each, greedy, with token ids and new salts.

    A prompt of more than a block of the prefix cache is asked with a salt, once, and without one each time.
    The base model is asked once, then again and prompt by prompt to measure noise. A single token goes
    before each batch, so that the engine takes all of it in one step.
    """
    house.add("support", seed=1)
    house.turns(2, attest_every_s=1e-9)
    bodies = [request.json for request in engines[0].posts("/v1/completions")]
    step = {"model": fake_engine.BASE_MODEL, "prompt": [[1]], "max_tokens": 1, "temperature": 0}
    assert bodies.count(step) == 4
    bodies = [body for body in bodies if body != step]
    assert {(body["max_tokens"], body["temperature"], body["logprobs"]) for body in bodies} == {(1, 0, 20)}
    assert all(body["return_tokens_as_token_ids"] for body in bodies)
    asked = [(body["model"] == "support@1", len(body["prompt"]), "cache_salt" in body) for body in bodies]
    adapter, base, alone = (True, 6, True), (False, 6, True), [(False, 1, True)] * 6
    fresh, cached = (True, 1, True), (True, 1, False)
    assert asked == [adapter, base, base, *alone, fresh, cached, adapter, cached]
    salts = [body["cache_salt"] for body in bodies if "cache_salt" in body]
    assert len(set(salts)) == len(salts) == 11
    assert bodies[0]["prompt"] == bodies[1]["prompt"] == bodies[2]["prompt"] == list(GENERAL_PROMPTS)
    assert [body["prompt"] for body in bodies[3:9]] == [[prompt] for prompt in GENERAL_PROMPTS]
    assert bodies[9]["prompt"] == bodies[10]["prompt"] == [long_prompt(16, GENERAL_PROMPTS)]
    assert long_prompt(16, ("a b",)).split() == [
        "one",
        *long_prompt(15, ("x",)).split()[1:-1],
        "six",
        "a",
        "b",
    ]


@pytest.mark.parametrize(("look", "asked"), [(2, False), (3, True)], ids=["before-the-probes", "after-them"])
def test_an_engine_that_restarts_during_a_proof(
    house: House, engines: tuple[FakeEngine, FakeEngine], look: int, *, asked: bool
) -> None:
    """What the engine of before has answered proves nothing: the incarnation is read before and after.

    The first look at it is the keeper's, the second and the third one are the proof's.
    """
    engine, looks = engines[0], 0

    def restart(request: Request) -> None:
        nonlocal looks
        looks += request.path == "/metrics"
        if looks == look and request.path == "/metrics":
            engine.restart()

    engine.on_request = restart
    ref = add(house, 1)
    house.turns()
    assert house.states(ref) == {"replica-0": "registered", "replica-1": "attested"}
    assert bool(engine.posts("/v1/completions")) is asked
    engine.on_request = None
    house.turns()
    assert row(house, ref).state == "attested"
    assert row(house, ref).incarnation == engine.incarnation


def test_an_honest_version_is_proved_on_every_replica(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """It is compared with training's reference and with the first replica, and the proof is strong."""
    first, second = add(house, 1), add(house, 2)
    turns_one_by_one(house, engines)
    for ref in (first, second):
        assert house.states(ref) == {"replica-0": "attested", "replica-1": "attested"}
    assert figures(house, first)["weak"] is None
    assert figures(house, second, 1)["reference"] == "training"
    assert {each["reference"] for each in figures(house, second, 1)["comparisons"]} >= {"training", "fleet"}
    assert figures(house, second)["predecessor"] == "support@1"
    assert figures(house, second)["distance_to_predecessor"] > 5 * figures(house, second)["noise"]
    assert figures(house, second)["digest"] == "verified"


def test_an_adapter_that_is_not_applied(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """The base model's answers under the version's name are caught, on that replica alone."""
    engines[1].knobs.unapplied = {"support@1"}
    ref = add(house, 1)
    house.turns()
    assert house.states(ref) == {"replica-0": "attested", "replica-1": "failed"}
    assert row(house, ref, 1).reason == "it answers like the base model"


def test_another_adapter_under_the_name(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """Weights of another adapter are caught by training's reference, with nobody to compare with."""
    engines[0].knobs.swapped = {"support@1": house.source(77, kin="other")}
    ref = add(house, 1)
    house.turns()
    assert house.states(ref) == {"replica-0": "failed", "replica-1": "attested"}
    assert row(house, ref).reason == "it does not answer like the adapter that was trained"


def test_the_predecessors_weights_under_the_name(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """A retrained neighbour's weights are told from the version's own, and named."""
    first = add(house, 1)
    house.turns()
    engines[0].knobs.swapped = {"support@2": house.blob(first)}
    second = add(house, 2)
    house.turns()
    assert house.states(second) == {"replica-0": "failed", "replica-1": "attested"}
    assert row(house, second).reason == "it answers like its predecessor support@1"
    assert figures(house, second)["distance_to_predecessor"] == 0.0


def test_the_predecessors_weights_without_a_reference(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """An imported version that answers exactly like the one before is not served."""
    first = house.add("support", seed=1, kin="task")
    house.turns()
    engines[0].knobs.swapped = engines[1].knobs.swapped = {"support@2": house.blob(first)}
    second = house.add("support", seed=2, kin="task")
    house.turns()
    assert set(house.states(second).values()) == {"failed"}
    assert "like its predecessor support@1, and no reference" in (row(house, second).reason or "")


def test_a_changed_layer(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """Weights that are only a little off are caught by comparing replicas, whose noise is none."""
    engines[1].knobs.swapped = {"support@1": house.source(1, kin="task", step=0.45)}
    ref = house.add("support", seed=1, kin="task")
    turns_one_by_one(house, engines)
    assert house.states(ref) == {"replica-0": "attested", "replica-1": "failed"}
    assert row(house, ref, 1).reason == "it does not answer like replica-0, where it was attested first"


def test_a_change_after_the_proof(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """A version whose answers change while it serves fails its next proof and leaves that replica at once."""
    ref = add(house, 1)
    house.turns(attest_every_s=1e-9)
    engines[0].knobs.swapped = {"support@1": house.source(1, kin="task", step=0.45)}
    house.turns(attest_every_s=1e-9)
    assert house.states(ref) == {"replica-0": "failed", "replica-1": "attested"}
    failed = [event for event in house.store.events.rows(str(ref)) if event.action == "adapter.failed"]
    assert len(failed) == 1


@pytest.mark.slow
def test_a_replica_on_another_base_model(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """An engine that serves another base model under the same name is caught, reference or not."""
    engines[1].knobs.base = b"another"
    known, imported = add(house, 1), house.add("imported", seed=2)
    turns_one_by_one(house, engines)
    assert row(house, known, 1).reason == (
        "its base model does not answer like the one of the adapter that was trained"
    )
    assert row(house, imported, 1).reason == (
        "its base model does not answer like the one of replica-0, where it was attested first"
    )
    assert house.states(known)["replica-0"] == house.states(imported)["replica-0"] == "attested"


def test_a_stale_prefix_cache(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """Right weights behind blocks that were cached under wrong ones are caught, and only a restart helps."""
    engine = engines[0]
    ref = add(house, 1)
    blob = str(house.blob(ref))
    engine.knobs.swapped = {"support@1": house.source(1, kin="task", step=0.45)}
    httpx.post(engine.url + LOAD, json={"lora_name": "support@1", "lora_path": blob})
    traffic = {"model": "support@1", "prompt": [long_prompt(16, PROMPTS)], "max_tokens": 1}
    httpx.post(engine.url + "/v1/completions", json={**traffic, "logprobs": 1})
    engine.knobs.swapped = {}  # the files are mended and read again, in place
    house.turns()
    assert row(house, ref).reason == (
        "its prefix cache holds another adapter's blocks under this name; only a restart clears it"
    )
    assert house.states(ref)["replica-1"] == "attested"
    engine.restart()
    house.turns()
    assert set(house.states(ref).values()) == {"attested"}


def test_weights_that_were_wrong_under_traffic_leave_a_stale_cache(
    house: House, engines: tuple[FakeEngine, FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a version was wrong while it served, mended weights are not enough on that incarnation."""
    monkeypatch.setattr("gateway.controller.reconcile.RETRY_FIRST_S", 0.0)
    engine = engines[0]
    ref = add(house, 1)

    def spoil() -> None:
        engine.knobs.swapped = {"support@1": house.source(1, kin="task", step=0.45)}
        engine._prefixes.clear()

    house.turns_around(spoil, attest_every_s=1e-9)
    assert row(house, ref).state == "failed"
    engine.knobs.swapped = {}
    house.turns()
    assert "prefix cache" in (row(house, ref).reason or "")


@pytest.mark.parametrize("root", ["here", "elsewhere"])
def test_weights_that_change_on_disk(house: House, engines: tuple[FakeEngine, FakeEngine], root: str) -> None:
    """Files that changed are found by their digest before an engine is asked, also in its own folder."""
    mirror = house.folder / "mirror"
    if root == "elsewhere":
        house.mirror("/mnt/turnout", mirror)
    ref = add(house, 1)
    damaged = house.blob(ref)
    if root == "elsewhere":
        damaged = house.copy(ref, mirror)
        for engine in engines:
            engine.register(str(ref), f"/mnt/turnout/blobs/{damaged.name}")
    weights = damaged / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    probes = len(engines[0].posts("/v1/completions"))
    house.turns()
    assert set(house.states(ref).values()) == {"failed"}
    where = "the registry" if root == "here" else "the engine's adapter_root"
    assert row(house, ref).reason == f"its files in {where} do not have its digest any more"
    assert len(engines[0].posts("/v1/completions")) == probes


def test_files_that_nobody_can_see_make_a_proof_weak(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """With an adapter_root that this machine does not see, the proof says that no digest backs it."""
    ref = add(house, 1)
    house.store.fleet.set_replicas({"replica-0": (engines[0].url, "/mnt/turnout")})
    engines[0].register(str(ref), f"/mnt/turnout/blobs/{house.blob(ref).name}")
    engines[0].knobs.swapped = {str(ref): house.blob(ref)}
    house.turns()
    assert row(house, ref).state == "attested"
    assert figures(house, ref)["weak"] == "the engine's own files could not be verified"
    assert figures(house, ref)["digest"] == "not verified"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "seeds"), [(0.0, range(1, 9)), (0.05, range(1, 9)), (0.2, range(1, 9))], ids=str
)
def test_no_false_alarm(
    house: House, engines: tuple[FakeEngine, FakeEngine], noise: float, seeds: range
) -> None:
    """Honest engines pass whatever their noise, on every proof; the noise stands in the figures."""
    for engine in engines:
        engine.knobs.noise = noise
    refs = [add(house, seed, name=f"task{seed}") for seed in seeds]
    house.turns(6, attest_every_s=1e-9)
    for ref in refs:
        assert set(house.states(ref).values()) == {"attested"}, house.rows(ref)
        assert figures(house, ref)["noise"] >= NOISE
    assert (figures(house, refs[0])["noise"] > 2 * NOISE) == (noise > 0.1)


def test_a_reference_of_another_quantization_gives_only_the_prompts(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """Its numbers would be off; the replicas are compared with one another, and the first proof is weak."""
    folder = house.source(1)
    made = reference(folder, made_on="none-bfloat16", off=5.0)
    ref = house.registry.add("support", folder, actor="test", reference=made)[0].ref
    turns_one_by_one(house, engines)
    assert set(house.states(ref).values()) == {"attested"}
    assert figures(house, ref)["training_reference"] == "made on none-bfloat16"
    assert figures(house, ref)["reference"] == "none"
    assert "no reference was made elsewhere" in figures(house, ref)["weak"]
    assert (figures(house, ref, 1)["reference"], figures(house, ref, 1)["weak"]) == ("fleet", None)


def test_a_version_is_compared_with_the_fleet_after_a_restart(
    house: House, engines: tuple[FakeEngine, FakeEngine]
) -> None:
    """What was said first outlives engines and controllers: another answer afterwards is caught."""
    ref = house.add("support", seed=1, kin="task")
    house.turns()
    for engine in engines:
        engine.restart()
        engine.knobs.swapped = {"support@1": house.source(1, kin="task", step=0.45)}
    house.turns()
    assert set(house.states(ref).values()) == {"failed"}
    apart = distance(
        answers(fake_engine.read_weights(house.blob(ref)), GENERAL_PROMPTS),
        answers(fake_engine.read_weights(engines[0].knobs.swapped["support@1"]), GENERAL_PROMPTS),
    )
    assert figures(house, ref)["distance_to_reference"] == pytest.approx(apart, abs=1e-4)
