"""How much of what is left of a limit a worker takes in hand until it next asks the store. Pure.

Every worker says in the store what it has *used* in the window and what it *holds* beside that, which it may
use without asking. Who asks sees what all others say, and takes of the rest, in one transaction. So used and
held together are never more than the limit, whoever asks when, and whatever anybody's clock says.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CLAIM_S = 65.0
"""A worker that has said nothing for so long is gone, and so is all that it used within the window: longer
than the window and the time for which it uses what it holds (`LEASE_S`)."""

CONCURRENT_CLAIM_S = 10.0
"""The same of requests under way, which end with their worker."""

LEASE_S = 3.0
"""After so long without a word from the store a worker no longer uses what it holds."""


class Claim(NamedTuple):
    """What one worker says of one limit. `short`: it had to refuse for want of a share."""

    used: int
    held: int
    short: bool = False


class Others(NamedTuple):
    """What all other workers say of one limit together."""

    used: int = 0
    held: int = 0
    short: bool = False


class Ask(NamedTuple):
    """What a worker says of a limit when it asks: its own use, what it keeps, and what requests wait for."""

    limit: int
    used: int
    held: int
    needed: int
    active: bool


def grant(ask: Ask, others: Others, *, workers: int) -> int:
    """Return how much more may be held: at most what is left, and no more than an equal part without need.

    While another worker is short, nothing is taken without need.
    What is left for the other workers shrinks with each that asks, and is never none before it is all used.
    """
    spare = ask.limit - others.used - others.held - ask.used - ask.held
    if spare <= 0:
        return 0
    part = 0
    if ask.needed or (ask.active and not others.short):
        part = -(-(spare + ask.held) // max(1, workers)) - ask.held
    return max(0, min(spare, max(part, ask.needed - ask.held)))


def kept(held: int, *, lately: int, active: bool, others_short: bool) -> int:
    """Return how much of what it holds a worker keeps: all, or what it needs while another one has none."""
    if not active:
        return 0
    return min(held, lately) if others_short else held


def gather(claims: Iterable[Mapping[str, Claim]]) -> dict[str, Others]:
    """Return what all these workers say together, by limit."""
    together: dict[str, Others] = {}
    for said in claims:
        for name, claim in said.items():
            before = together.get(name, Others())
            together[name] = Others(
                before.used + claim.used, before.held + claim.held, before.short or claim.short
            )
    return together


def alone(limit: int, workers: int) -> int:
    """Return a worker's own limit while it can't ask: its part, rounded down, but at least one."""
    return max(1, limit // max(1, workers))
