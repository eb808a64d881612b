"""Subjects that come back after the shares have changed: the chances that their arm then still had.

With two arms, weighted rendezvous hashing (gateway.routing.experiments) gives a subject the candidate exactly
when one uniform number u of that subject lies below the candidate's chance. What arms a subject met before
tells between which bounds its u lies: one that met the candidate at 5 % has it at 25 % for certain and tells
nothing new, one that met the stable arm has it with chance 0.2 / 0.95. Counted with these chances, subjects
may come back in several epochs and bounds stay valid.
"""

from collections.abc import Iterable

from gateway.experiments.outcomes import Shares


def chances(
    history: Iterable[tuple[Shares, str]], shares: Shares, *, stable: str, candidate: str
) -> Shares | None:
    """Return the chances of the two arms under `shares`, given the arms that a subject met before.

    `history` holds the shares and the subject's arm in each earlier epoch of the same experiment, in any
    order. None where that can't be said, and the unit should not be counted again: in epochs with other arms
    than these two, or when the history contradicts itself.
    """
    low, high = 0.0, 1.0
    for earlier, arm in history:
        if not _only(earlier, stable, candidate) or arm not in (stable, candidate):
            return None
        chance = _chance(earlier, stable, candidate)
        if arm == candidate:
            high = min(high, chance)
        else:
            low = max(low, chance)
    if not _only(shares, stable, candidate) or low >= high:
        return None
    chance = min(max(_chance(shares, stable, candidate), low), high)
    theirs = (chance - low) / (high - low)
    return {stable: 1 - theirs, candidate: theirs}


def _only(shares: Shares, stable: str, candidate: str) -> bool:
    return all(arm in (stable, candidate) for arm, share in shares.items() if share > 0)


def _chance(shares: Shares, stable: str, candidate: str) -> float:
    theirs = shares.get(candidate, 0.0)
    return theirs / (shares.get(stable, 0.0) + theirs)
