"""What an experiment counts: closed units, and the shares under which they were assigned."""

from collections.abc import Mapping
from typing import NamedTuple

Shares = Mapping[str, float]
"""The share of each arm, by its label. Arms with share 0 may be left out."""

Epochs = Mapping[int, Shares]
"""Frozen shares by the table generation from which they held."""


class Outcome(NamedTuple):
    """One closed unit. They are counted in the order in which they closed, which must not depend on the arm.

    `value` lies in [0, 1]. A unit counts once, in the first arm that it met. One that is counted again in a
    later epoch, because its subject came back, carries the chances that the later assignment had given the
    earlier ones (`chances`), which are not the epoch's shares; see gateway.experiments.returning.
    """

    epoch: int
    arm: str
    value: float
    chances: Shares | None = None


def candidate_chance(shares: Shares, *, stable: str, candidate: str) -> float:
    """Return the candidate's chance among units that are in one of the two arms; 0 where neither has any."""
    theirs = shares.get(candidate, 0.0)
    both = shares.get(stable, 0.0) + theirs
    return theirs / both if both > 0 else 0.0
