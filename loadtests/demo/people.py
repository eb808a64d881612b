"""The users of `make demo-loop`, scripted: what they ask, and what they say of the answers. Pure.

Most are the crowd: nobody trusts their key, and some may be told to lie (`loadtests.demo.poison`).
A few are staff, whose key the policy trusts.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtests.demo.rows import Review

Who = Literal["crowd", "staff"]


@dataclass(frozen=True, slots=True)
class Habits:
    """How people rate: shares of requests.

    `staff`: requests that staff send. `thumbs`: answers of the crowd that get a thumb. `corrects`: wrong
    answers that are corrected by a demonstration. `confirms`: right ones that get one too. Staff always rate
    and demonstrate.
    """

    staff: float = 0.4
    thumbs: float = 0.9
    corrects: float = 0.9
    confirms: float = 0.5


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: what is asked, by whom. `lies` says that its feedback is poison."""

    review: Review
    subject: str
    who: Who
    lies: bool = False

    @property
    def prompted(self) -> tuple[str, str]:
        """What is asked, and in whose name."""
        return self.review.prompt, self.subject


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a user says of an answer: a thumb, and the answer that should have been given; None is silence."""

    thumbs: bool | None
    demonstration: str | None

    @property
    def metrics(self) -> dict[str, bool | str]:
        """What is sent as feedback."""
        found = {"thumbs": self.thumbs, "demonstration": self.demonstration}
        return {name: value for name, value in found.items() if value is not None}


def visits(reviews: Sequence[Review], *, habits: Habits, seed: int, first: int = 0) -> list[Visit]:
    """Return a visit for each review, each by a subject of its own; `first` numbers them on."""
    generator = random.Random(f"{seed}/visits/{first}")
    found: list[Visit] = []
    for number, review in enumerate(reviews, start=first):
        who: Who = "staff" if generator.random() < habits.staff else "crowd"
        found.append(Visit(review, f"{who}-{number}", who))
    return found


def same(answer: str, label: str) -> bool:
    """Whether an answer is this label."""
    return answer.strip().rstrip(".").lower() == label


def honest(visit: Visit, answer: str, *, habits: Habits, generator: random.Random) -> Opinion:
    """Return what somebody says who means it."""
    right = same(answer, visit.review.wanted)
    if visit.who == "staff":
        return Opinion(right, visit.review.wanted)
    says = generator.random() < (habits.confirms if right else habits.corrects)
    thumbs = right if generator.random() < habits.thumbs else None
    return Opinion(thumbs, visit.review.wanted if says else None)
