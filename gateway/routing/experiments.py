"""Which arm a subject belongs to: a pure function of route, salt, subject and shares.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; weighted by -ln(u)/w, Schindelhauer and Schomaker
2005): each arm draws a score from the subject's hash, the lowest wins, and arm i wins with probability
w_i exactly. An arm's score depends on no other arm, so a changed share moves only subjects that gain or
lose by it: from 90/10 to 80/20, 10 % of the subjects and no others.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_SCALE = 2.0**-53


class Weighted(Protocol):
    """An arm as far as assignment is concerned."""

    @property
    def adapter(self) -> str:
        """The arm's label."""

    @property
    def share(self) -> float:
        """Its share, between 0 and 1."""


ArmT = TypeVar("ArmT", bound=Weighted)


def unit_of(route: str, subject: str) -> str:
    """Return the pseudonym (32 hex digits) under which a subject is recorded on a route."""
    return blake2b(subject.encode(), digest_size=16, key=_key(route), person=b"turnout-unit").hexdigest()


def assign(route: str, salt: str, subject: str, arms: Sequence[ArmT]) -> ArmT:
    """Return the arm of `subject`.

    The same answer on every worker and machine. Arms with share 0 are never chosen.

    Raises:
        ValueError: no arm has a share above 0.
    """
    best: ArmT | None = None
    lowest = math.inf
    key = _key(route)
    for arm in arms:
        if arm.share <= 0:
            continue
        score = -math.log(_uniform(key, salt, arm.adapter, subject)) / arm.share
        if score < lowest:
            best, lowest = arm, score
    if best is None:
        raise ValueError(f"route {route!r} has no arm with a share above 0")
    return best


class Lottery:
    """`assign` and `draws` for one route, with all that does not depend on the subject done beforehand."""

    __slots__ = ("_arms", "_capture", "_only", "_unit")

    def __init__(self, route: str, salt: str, arms: Sequence[Weighted]) -> None:
        key = _key(route)
        chosen = [(number, arm) for number, arm in enumerate(arms) if arm.share > 0]
        self._arms = [(number, arm.share, _begun(key, salt, arm.adapter)) for number, arm in chosen]
        self._only = chosen[0][0] if len(chosen) == 1 else None
        self._capture = _begun(key, "capture", "")
        self._unit = blake2b(digest_size=16, key=key, person=b"turnout-unit")

    def arm(self, subject: str) -> int:
        """Return the place of the subject's arm among the arms, as `assign` finds it.

        Raises:
            ValueError: no arm has a share above 0.
        """
        if self._only is not None:
            return self._only
        text = subject.encode("utf-8", "surrogatepass")
        best = -1
        lowest = math.inf
        for number, share, begun in self._arms:
            drawing = begun.copy()
            drawing.update(text)
            score = -math.log(((int.from_bytes(drawing.digest()) >> 11) + 1) * _SCALE) / share
            if score < lowest:
                best, lowest = number, score
        if best < 0:
            raise ValueError("the route has no arm with a share above 0")
        return best

    def captures(self, subject: str, share: float) -> bool:
        """Whether a sample of `share` of the requests, which `draws` takes for capture, contains this one."""
        drawing = self._capture.copy()
        drawing.update(subject.encode("utf-8", "surrogatepass"))
        return ((int.from_bytes(drawing.digest()) >> 11) + 1) * _SCALE <= share

    def unit(self, subject: str) -> str:
        """Return `unit_of` the subject."""
        hashing = self._unit.copy()
        hashing.update(subject.encode())
        return hashing.hexdigest()


def draws(route: str, salt: str, subject: str, share: float) -> bool:
    """Whether a sample of `share` of the subjects contains this one."""
    return _uniform(_key(route), salt, "", subject) <= share


def _key(route: str) -> bytes:
    return route.encode()[:64]


def _begun(key: bytes, salt: str, arm: str) -> blake2b:
    """Return the hash of a draw up to the subject."""
    text = f"{salt}\0{arm}\0".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8, key=key, person=b"turnout-arm")


def _uniform(key: bytes, salt: str, arm: str, subject: str) -> float:
    """Return a number in (0, 1], 53 bits fine."""
    drawing = _begun(key, salt, arm)
    drawing.update(subject.encode("utf-8", "surrogatepass"))
    return ((int.from_bytes(drawing.digest()) >> 11) + 1) * _SCALE
