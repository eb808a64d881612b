"""The chances of subjects that come back after shares have changed."""

import pytest

from gateway.core.routes import Arm
from gateway.experiments.outcomes import Shares
from gateway.experiments.returning import chances
from gateway.routing.experiments import Lottery

ARMS = {"stable": "s@1", "candidate": "s@2"}
RAMP = [{"s@1": 1 - share, "s@2": share} for share in (0.05, 0.25, 0.5, 0.25)]


@pytest.mark.parametrize(
    ("history", "shares", "left"),
    [
        ([], RAMP[0], 0.05),
        ([(RAMP[0], "s@2")], RAMP[1], 1.0),
        ([(RAMP[0], "s@1")], RAMP[1], 0.2 / 0.95),
        ([(RAMP[0], "s@1"), (RAMP[1], "s@1")], RAMP[2], 0.25 / 0.75),
        ([(RAMP[0], "s@1"), (RAMP[1], "s@2")], RAMP[2], 1.0),
        ([(RAMP[2], "s@2")], RAMP[1], 0.5),
        ([(RAMP[1], "s@1")], RAMP[0], 0.0),
        ([(RAMP[1], "s@2")], {"s@1": 1.0}, 0.0),
    ],
)
def test_what_was_met_before_bounds_what_comes(
    history: list[tuple[Shares, str]], shares: Shares, left: float
) -> None:
    """An arm that had to come again tells nothing new; the others keep what chance is left."""
    found = chances(history, shares, **ARMS)
    assert found is not None
    assert found["s@2"] == pytest.approx(left)
    assert found["s@1"] == pytest.approx(1 - left)


@pytest.mark.parametrize(
    "history",
    [
        [(RAMP[1], "s@1"), (RAMP[1], "s@2")],
        [({"s@1": 0.5, "s@3": 0.5}, "s@1")],
        [({"s@1": 0.5, "s@2": 0.2, "s@3": 0.3}, "s@1")],
        [(RAMP[1], "s@3")],
    ],
    ids=["contradiction", "other arms", "a third arm", "not an arm"],
)
def test_what_can_not_be_said_is_not_said(history: list[tuple[Shares, str]]) -> None:
    """A history of other arms, or one that contradicts itself, gives no chances."""
    assert chances(history, RAMP[2], **ARMS) is None


def test_the_hash_keeps_to_these_chances() -> None:
    """Of 8,000 subjects, those with each history meet the candidate as often as their chances say."""
    lotteries = [
        Lottery("support", "", [Arm(adapter=label, share=share) for label, share in shares.items()])
        for shares in RAMP
    ]
    met: dict[tuple[str, ...], list[bool]] = {}
    for number in range(8_000):
        arms = [("s@1", "s@2")[lottery.arm(f"user{number}")] for lottery in lotteries]
        met.setdefault(tuple(arms[:-1]), []).append(arms[-1] == "s@2")
    for labels, candidates in met.items():
        found = chances(zip(RAMP, labels, strict=False), RAMP[-1], **ARMS)
        assert found is not None
        chance = found["s@2"]
        error = (chance * (1 - chance) / len(candidates)) ** 0.5
        assert abs(sum(candidates) / len(candidates) - chance) <= 4 * error
