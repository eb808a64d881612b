"""Which version of a route is watched, and where its reference begins, and why there. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Why = Literal["promotion", "pinned", "alarm", "exhausted"]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A period that a person gave. Times are seconds since the epoch; `until` is exclusive."""

    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """What a reference is drawn from: a route's prompts from `since` on, before `until` if that is given.

    `why`: the version began to answer then, a person said so, an alarm ended the reference before it, or that
    one was used up. `adapter` is the version watched and `model` the embedding model; another one of either
    needs another reference. `pinned` is the period that a person gave, also when it is used up by now.
    """

    adapter: str
    model: str
    since: float
    why: Why = "promotion"
    until: float | None = None
    pinned: Pinned | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self | None:
        """Return what `document` was made of; None of an empty one."""
        if not document:
            return None
        pinned = document["pinned"]
        return cls(**{**document, "pinned": Pinned(**pinned) if pinned else None})

    @property
    def answered_by(self) -> str | None:
        """The version whose requests make the reference: of a pinned period any, since it may be older."""
        return None if self.why == "pinned" else self.adapter


def choose(
    before: Basis | None, *, adapter: str, since: float, model: str, pinned: Pinned | None = None
) -> Basis:
    """Return the basis that holds now: the one of before, unless version, model or pinned period changed."""
    fresh = Basis(adapter, model, since)
    if pinned is not None:
        fresh = Basis(adapter, model, pinned.since, "pinned", pinned.until, pinned)
    if before is None or (before.adapter, before.model, before.pinned) != (adapter, model, pinned):
        return fresh
    if before.why == "promotion" and before.since != since:  # promoted anew, after another version
        return fresh
    return before
