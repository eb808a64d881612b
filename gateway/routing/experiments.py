"""Which arm a subject belongs to: a pure function of route, salt, subject and shares.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; weighted by -ln(u)/w, Schindelhauer and Schomaker
2005): each arm draws a score from the subject's hash, the lowest wins, and arm i wins with probability
w_i exactly. An arm's score depends on no other arm, so a changed share moves only subjects that gain or
lose by it: from 90/10 to 80/20, 10 % of the subjects and no others.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

_SCALE = 2.0**-53


class Weighted(Protocol):
    """An arm as far as assignment is concerned."""

    @property
    def adapter(self) -> str:
        """The arm's label."""

    @property
    def share(self) -> float:
        """Its share, between 0 and 1."""


class Lottery:
    """Assignment on one route, with all that does not depend on the subject done beforehand.

    The same answers on every worker and machine. Arms with share 0 are never chosen.
    """

    __slots__ = ("_arms", "_capture", "_only", "_shadow", "_unit")

    def __init__(self, route: str, salt: str, arms: Sequence[Weighted]) -> None:
        key = _key(route)
        chosen = [(number, arm) for number, arm in enumerate(arms) if arm.share > 0]
        self._arms = [(number, arm.share, _begun(key, salt, arm.adapter)) for number, arm in chosen]
        self._only = chosen[0][0] if len(chosen) == 1 else None
        self._capture = _begun(key, "capture", "")
        self._shadow = _begun(key, "shadow", "")
        self._unit = blake2b(digest_size=16, key=key, person=b"turnout-unit")

    def arm(self, subject: str) -> int:
        """Return the place of the subject's arm among the arms.

        Raises:
            ValueError: no arm has a share above 0.
        """
        if self._only is not None:
            return self._only
        text = subject.encode("utf-8", "surrogatepass")
        best = -1
        lowest = math.inf
        for number, share, begun in self._arms:
            score = -math.log(_uniform(begun, text)) / share
            if score < lowest:
                best, lowest = number, score
        if best < 0:
            raise ValueError("the route has no arm with a share above 0")
        return best

    def captures(self, request_id: str, share: float) -> bool:
        """Whether a sample of `share` of the requests contains this one."""
        return _uniform(self._capture, request_id.encode("utf-8", "surrogatepass")) <= share

    def shadows(self, request_id: str, share: float) -> bool:
        """Whether another such sample, independent of the one that is captured, contains this request."""
        return _uniform(self._shadow, request_id.encode("utf-8", "surrogatepass")) <= share

    def unit(self, subject: str) -> str:
        """Return the pseudonym (32 hex digits) under which a subject is recorded on the route."""
        hashing = self._unit.copy()
        hashing.update(subject.encode())
        return hashing.hexdigest()


def _key(route: str) -> bytes:
    return route.encode()[:64]


def _begun(key: bytes, salt: str, arm: str) -> blake2b:
    """Return the hash of a draw up to the subject."""
    text = f"{salt}\0{arm}\0".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8, key=key, person=b"turnout-arm")


def _uniform(begun: blake2b, subject: bytes) -> float:
    """Return a number in (0, 1], 53 bits fine."""
    drawing = begun.copy()
    drawing.update(subject)
    return ((int.from_bytes(drawing.digest()) >> 11) + 1) * _SCALE
