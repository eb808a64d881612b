"""What tests of proofs ask of a house with two engines."""

from gateway.core.refs import VersionRef
from gateway.store.fleet import RegistrationRow
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House


def turns_one_by_one(house: House, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """Let the first replica be done before the second one is there: its answers are the fleet's."""
    engines[1].knobs.healthy = False
    house.turns()
    engines[1].knobs.healthy = True
    house.turns(2)


def row(house: House, ref: VersionRef, replica: int = 0) -> RegistrationRow:
    """What is known of a version on a replica."""
    (found,) = [each for each in house.rows(ref) if each.replica == f"replica-{replica}"]
    return found


def figures(house: House, ref: VersionRef, replica: int = 0) -> dict:  # type: ignore[type-arg]
    """The figures of a proof."""
    found = row(house, ref, replica).figures
    assert found is not None
    return found
