"""Recorded answers: kept while a proof can need them, and no longer."""

import pytest
from sqlalchemy import update

from gateway.core.refs import VersionRef
from gateway.store.attestations import EngineAnswers, EngineAnswersKey
from gateway.store.control import ControlStore
from gateway.store.fleet import CONTROLLER, LeaseLost, RegistrationRow
from gateway.store.schema import names
from tests.gateway.store.conftest import Clock

DAY_S = 86_400.0


def held(control: ControlStore) -> int:
    """Take the controller's lease for long."""
    epoch = control.fleet.acquire(CONTROLLER, "test", ttl_s=100 * DAY_S)
    assert epoch is not None
    return epoch


def key_of(digest: str, prompts: str = "p") -> EngineAnswersKey:
    """The key of a digest's answers."""
    return EngineAnswersKey(digest, "base", "bitsandbytes", prompts)


def record(control: ControlStore, digest: str, *, epoch: int, prompts: str = "p") -> None:
    """Record answers of a digest."""
    said = ({"1": -0.5},)
    found = EngineAnswers(key_of(digest, prompts), said, said, "r0", "1", compared=False)
    control.attestations.record(found, epoch=epoch)


def known(control: ControlStore, *digests: str) -> list[str]:
    """Those of the digests whose answers are there."""
    return [digest for digest in digests if control.attestations.answers(key_of(digest)) is not None]


@pytest.mark.parametrize(
    ("first", "then", "replaced"),
    [
        ((False, 0.07), (False, 0.07), False),
        ((False, 0.07), (True, 0.07), True),
        ((True, 0.07), (False, 0.01), False),
        ((True, 0.07), (True, 0.035), True),
        ((True, 0.07), (True, 0.036), False),
        ((True, None), (True, 0.2), True),
        ((True, 0.07), (True, None), False),
    ],
)
def test_which_answers_stand(
    control: ControlStore, first: tuple[bool, float | None], then: tuple[bool, float | None], replaced: bool
) -> None:
    """The first ones, unless others were compared, or come from an engine that was quiet at last."""
    epoch = held(control)
    said = ({"1": -0.5},)
    for replica, (compared, noise) in (("r0", first), ("r1", then)):
        found = EngineAnswers(key_of("d"), said, said, replica, "1", compared, noise)
        stands = control.attestations.record(found, epoch=epoch)
        assert control.attestations.answers(key_of("d")) == stands
    assert (stands.replica == "r1") == replaced


def test_answers_of_what_nobody_can_ask_for_are_forgotten(control: ControlStore, clock: Clock) -> None:
    """A version that was retired a day ago and a digest without a version lose theirs; others keep them."""
    epoch = held(control)
    for name in ("old", "late", "used"):
        control.versions.add(name, f"d-{name}", {}, actor="test")
    for digest in ("d-old", "d-late", "d-used", "d-unknown"):
        record(control, digest, epoch=epoch)
    record(control, "d-old", epoch=epoch, prompts="other")
    control.versions.retire(VersionRef("old", 1), actor="test")
    clock.now += DAY_S
    control.versions.retire(VersionRef("late", 1), actor="test")
    clock.now += 1
    assert control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch) == 3
    assert known(control, "d-old", "d-late", "d-used", "d-unknown") == ["d-late", "d-used"]
    assert control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch) == 0


@pytest.mark.parametrize("gap", [0, 1000], ids=["next-to-each-other", "numbers-left-out"])
@pytest.mark.parametrize(("newest_retired", "kept"), [(False, ["d2", "d3"]), (True, [])])
def test_answers_of_a_predecessor_stay(
    control: ControlStore, clock: Clock, newest_retired: bool, kept: list[str], gap: int
) -> None:
    """A version must be told apart from the one before it, retired or not, while it may be proved."""
    epoch = held(control)
    made = []
    for digest in ("d1", "d2", "d3"):
        made.append(control.versions.add("a", digest, {}, actor="test")[0].ref)
        record(control, digest, epoch=epoch)
        with control.database.write() as connection:
            connection.execute(update(names).values(last_version=names.c.last_version + gap))
    for ref in made if newest_retired else made[:2]:
        control.versions.retire(ref, actor="test")
    clock.now += DAY_S + 1
    control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch)
    assert known(control, "d1", "d2", "d3") == kept


def test_answers_of_what_still_stands_stay(control: ControlStore, clock: Clock) -> None:
    """A retired version that a route still meets is proved again on its replica, like any other."""
    epoch = held(control)
    for digest in ("d1", "d2"):
        control.versions.add("a", digest, {}, actor="test")
        record(control, digest, epoch=epoch)
    for number in (1, 2):
        control.versions.retire(VersionRef("a", number), actor="test")
    ref = VersionRef("a", 2)
    row = RegistrationRow("r0", ref, "1", "d2", "attested", None, None, at=clock.now)
    control.fleet.set_registration(row, epoch=epoch)
    clock.now += DAY_S + 1
    assert control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch) == 0
    control.fleet.remove_registration("r0", ref, epoch=epoch)
    assert control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch) == 2


def test_only_the_effective_controller_forgets(control: ControlStore) -> None:
    """With a lease that is over nothing goes."""
    epoch = held(control)
    record(control, "d", epoch=epoch)
    with pytest.raises(LeaseLost):
        control.attestations.forget_unneeded(retired_for_s=DAY_S, epoch=epoch + 1)
    assert known(control, "d") == ["d"]
