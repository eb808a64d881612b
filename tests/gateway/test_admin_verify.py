"""A wish for a proof: `POST /admin/adapters/{name}/{version}/verify`, and how the controller answers it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.attestations import EngineAnswers, EngineAnswersKey
from tests import fake_engine
from tests.gateway.admin_harness import AdminService, admin_service
from tests.gateway.controller_house import House

PATH = "/admin/adapters/support/1/verify"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for this module."""
    with admin_service(tmp_path_factory.mktemp("verify")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores, with a controller and a replica."""
    service.reset().controller()
    return service


def answers(digest: str, *, replica: str = "r0", compared: bool = False) -> EngineAnswers:
    """What an engine may have said."""
    key = EngineAnswersKey(digest, "base", "none", "0" * 64)
    return EngineAnswers(key, ({"1": -0.5},), ({"1": -2.5},), replica, "i", compared)


def test_a_wish_is_numbered_and_recorded(admin: AdminService) -> None:
    """Each wish has a higher number than the one before, is an event, and names the replicas to wait for."""
    ref = admin.adapter()
    admin.register(ref)
    status, first = admin.call("POST", PATH)
    assert (status, first["adapter"], first["replicas"]) == (202, "support@1", ["r0"])
    _, second = admin.call("POST", PATH, json={"why": "doubt"})
    assert second["asked"] > first["asked"]
    assert admin.control.attestations.asked() == {ref: second["asked"]}
    event = admin.control.events.rows("support@1")[0]
    assert (event.action, event.why, event.generation) == ("adapter.verify", "doubt", second["asked"])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [(PATH, 409, "not_registered"), ("/admin/adapters/support/7/verify", 404, "not_found")],
    ids=["nowhere", "no such version"],
)
def test_what_can_not_be_proved(admin: AdminService, path: str, status: int, code: str) -> None:
    """A version that is on no replica, or does not exist, is refused with the reason."""
    admin.adapter()
    found, document = admin.call("POST", path)
    assert (found, document["error"]["code"]) == (status, code)


def test_anew_forgets_what_engines_said(admin: AdminService) -> None:
    """The recorded answers of that digest go, and no others; the event says so."""
    ref = admin.adapter()
    admin.register(ref)
    row = admin.control.versions.get(ref)
    assert row is not None
    mine, other = answers(row.digest), answers("sha256:" + "f" * 64)
    for each in (mine, other):
        admin.control.attestations.record(each, epoch=admin.epoch)
    admin.call("POST", PATH)
    assert admin.control.attestations.answers(mine.key) == mine
    admin.call("POST", PATH, json={"anew": True})
    assert admin.control.attestations.answers(mine.key) is None
    assert admin.control.attestations.answers(other.key) == other
    assert admin.control.events.rows("support@1")[0].after == {"answers": "forgotten"}


def test_the_first_answers_stay_unless_better_come(admin: AdminService) -> None:
    """Answers are replaced once, by the first that agreed with a reference."""
    store, epoch = admin.control.attestations, admin.epoch
    first = answers("sha256:" + "a" * 64)
    assert store.record(first, epoch=epoch) == first
    assert store.record(answers(first.key.digest, replica="r1"), epoch=epoch) == first
    better = answers(first.key.digest, replica="r2", compared=True)
    assert store.record(better, epoch=epoch) == better
    assert store.record(answers(first.key.digest, replica="r3", compared=True), epoch=epoch) == better
    assert store.answers(first.key) == better


def test_the_controller_answers_a_wish(tmp_path: Path) -> None:
    """Every replica proves the version at once, and so is a failed one; the figures say which wish it was."""
    with fake_engine.start() as engine:
        house = House(tmp_path, engine)
        ref = house.add("support", seed=1)
        house.turns()
        proofs = len(engine.posts("/v1/completions"))
        house.turns()
        assert len(engine.posts("/v1/completions")) == proofs
        asked = house.store.attestations.ask(ref, actor="test")
        engine.knobs.unapplied = {"support@1"}
        house.turns()
        (row,) = house.rows(ref)
        assert (row.state, (row.figures or {})["asked"]) == ("failed", asked)
        engine.knobs.unapplied = set()
        house.turns()
        assert house.states(ref) == {"replica-0": "failed"}  # its pause is not over
        asked = house.store.attestations.ask(ref, actor="test")
        engine._prefixes.clear()
        house.turns(3)
        (row,) = house.rows(ref)
        assert (row.state, (row.figures or {})["asked"]) == ("attested", asked)
        house.database.close()
