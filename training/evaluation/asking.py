"""What is asked of a system beside the rows, and what comes back."""

from dataclasses import dataclass

from training.data.rows import Example
from training.evaluation.figures import Array


def is_text(row: Example) -> bool:
    """Whether a row is a text as it is: what is wanted, with nothing before it."""
    return not row.messages


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a system beside the rows.

    `room` is how many tokens a free answer may have, 0 for none. `shots` are worked examples before the row.
    """

    room: int
    labels: tuple[str, ...] = ()
    shots: tuple[Example, ...] = ()
    likely: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What came back, row by row; the log-likelihoods of labels are turned into probabilities."""

    answers: tuple[str, ...]
    nats: Array | None
    tokens: Array | None
    chances: Array | None
