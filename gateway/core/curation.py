"""Rows that may be learned from: what they are called, and what a person says of one. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["demonstration", "liked", "disliked", "compared"]
Split = Literal["train", "held_out"]
State = Literal["proposed", "unreviewed", "approved", "edited", "rejected"]
"""`proposed` waits for a person; `unreviewed` was used without one, and waits no more."""

Part = Literal["train", "held_out_new", "held_out_old"]
Decision = Literal["approve", "edit", "reject"]

STATE_OF: Mapping[Decision, State] = {"approve": "approved", "edit": "edited", "reject": "rejected"}
REVIEWED: frozenset[State] = frozenset({"approved", "edited"})
"""What a person has looked at and lets count."""

OPEN: frozenset[State] = frozenset({"proposed", "unreviewed"})
"""What nobody has decided on."""

HELD_OUT_SHARE = 0.2
"""The share of subjects whose rows are judged by and never trained on."""

SHIFTS = ("drift", "concept")
"""What the drift monitor finds that says from when on traffic is another."""

RUBRIC: Mapping[str, str] = {
    "correct": "the answer is right, as far as the prompt tells",
    "complete": "nothing that was asked for is missing",
    "style": "it is written as answers of this route should be",
    "safe": "nothing in it harms, and nobody's personal data or secret is in it",
}
"""What a reviewer judges a row by; each is answered yes or no, or left open."""

REQUIRED = ("correct", "safe")
"""What no row may fail that is let count."""


@dataclass(frozen=True, slots=True)
class CuratedRow:
    """One row: a prompt, the wanted answer (of a disliked one the bad answer), and where it is from.

    `request_id` is the request that was answered, `other_id` that of the `rejected` answer where it is
    another one. `unit` is the request's subject, as a pseudonym, `other_unit` that of the other request, and
    `key_id` the key whose feedback it rests on. `trusted` rests on the policy's keys; what a person has
    reviewed is trusted too. `at` is the time of the request. `novelty` is how far the prompt is from what the
    parent version was trained on (0 to 2).
    """

    id: str
    route: str
    request_id: str
    other_id: str | None
    unit: str | None
    key_id: str
    adapter: str
    kind: Kind
    split: Split
    trusted: bool
    state: State
    at: float
    proposed_at: float
    proposed_by: str
    messages: Sequence[Mapping[str, str]]
    answer: str
    rejected: str | None = None
    other_unit: str | None = None
    novelty: float | None = None
    decided_by: str | None = None
    decided_at: float | None = None
    rubric: Mapping[str, bool] | None = None
    why: str | None = None

    @property
    def counts_as_trusted(self) -> bool:
        """Whether it rests on a source that the policy trusts, or on a person who has looked at it."""
        return self.trusted or self.state in REVIEWED


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decides on a row. The texts are those of an edited row; None leaves one as it is."""

    decision: Decision
    rubric: Mapping[str, bool]
    why: str | None = None
    answer: str | None = None
    rejected: str | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: it does; the message says how.
        """
        if unknown := sorted(set(self.rubric) - set(RUBRIC)):
            raise ValueError(f"the rubric has no {unknown[0]!r}; it has {', '.join(RUBRIC)}")
        failed = [name for name in REQUIRED if self.rubric.get(name) is False]
        if self.decision != "reject" and failed:
            raise ValueError(f"a row that is not {failed[0]} can't count; edit it, or reject it")
        changed = [text for text in (self.answer, self.rejected) if text is not None]
        if self.decision == "edit" and not changed:
            raise ValueError("to edit a row, give its new answer")
        if self.decision != "edit" and changed:
            raise ValueError(f"only an edit changes texts, and this is to {self.decision} the row")
        if any(not text.strip() for text in changed):
            raise ValueError("the new text is empty")


def new_since(cause: str | None, looked_from: float | None, change_at: float | None) -> float:
    """Return from when on traffic is new by what the monitor found: best from the change; 0 for all of it."""
    if cause not in SHIFTS:
        return 0.0
    return max(looked_from or 0.0, change_at or 0.0)


def row_id(route: str, kind: Kind, *of: str) -> str:
    """Return the id of the row of a kind that requests of a route give: the same one every time.

    `of` are the requests' ids, and of a demonstration that a trusted key sent also its text: it is another
    row than what others said before it.
    """
    text = "\0".join((route, kind, *of))
    return f"row-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def golden_id(route: str, number: int, messages: Sequence[Mapping[str, str]], answer: str) -> str:
    """Return the id of a row of a golden set: the same for the same prompt and answer."""
    said = "\0".join(f"{message['role']}\0{message['content']}" for message in messages)
    text = f"{route}\0{number}\0{said}\0\0{answer}"
    return f"gold-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def counted(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return counts by split and state of rows that have `split`, `state` and `count`."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["split"], {})[row["state"]] = int(row["count"])
    return found
