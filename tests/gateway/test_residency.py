"""The estimate of what an engine holds in memory."""

from typing import Any

import pytest

from gateway.api.residency import standing
from gateway.core.refs import VersionRef
from gateway.store.fleet import RegistrationRow, RegistrationState, ReplicaRow
from gateway.store.placement import Usage

A, B, C = (VersionRef(name, 1) for name in "abc")


def replica(**capacity: Any) -> ReplicaRow:
    """A healthy replica of incarnation 1."""
    return ReplicaRow("r0", "http://x", None, "1", True, None, None, capacity)


def row(
    ref: VersionRef, *, at: float, state: RegistrationState = "attested", life: str = "1"
) -> RegistrationRow:
    """A registration."""
    return RegistrationRow("r0", ref, life, "d", state, None, None, at)


ROWS = [row(A, at=1), row(B, at=2), row(C, at=3)]


@pytest.mark.parametrize(
    ("homes", "usage", "resident"),
    [
        pytest.param({}, {}, ["c@1", "b@1"], id="the-last-attested"),
        pytest.param({A: ("r0",)}, {A: Usage(1, 9)}, ["a@1", "c@1"], id="used-at-home"),
        pytest.param({A: ("r1",)}, {A: Usage(1, 9)}, ["c@1", "b@1"], id="used-elsewhere"),
        pytest.param({}, {A: Usage(1, 9)}, ["a@1", "c@1"], id="used-anywhere"),
    ],
)
def test_the_last_touched_are_resident(
    homes: dict[VersionRef, tuple[str, ...]], usage: dict[VersionRef, Usage], resident: list[str]
) -> None:
    """With room for two, the two that were touched last."""
    found = standing(replica(max_cpu_loras=2), ROWS, homes, usage)
    assert [each.adapter for each in found if each.resident_estimate] == resident
    assert len(found) == 3


def test_what_does_not_stand_is_left_out() -> None:
    """Failed versions, other incarnations and other replicas do not stand here."""
    rows = [row(A, at=1), row(B, at=2, state="failed"), row(C, at=3, life="0")]
    (found,) = standing(replica(), rows, {A: ("r0",)}, {A: Usage(1, 7)})
    assert (found.adapter, found.home, found.last_used_at, found.resident_estimate) == ("a@1", True, 7, None)
