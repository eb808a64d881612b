"""The rows that are trained on, by kind, and the error that says what is wrong with the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

ROLES = ("system", "user", "assistant")
Message = dict[str, str]
Kind = Literal["examples", "preferences", "rated", "texts"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class DataError(ValueError):
    """The data can't be trained on; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Example:
    """For supervised training: the messages before the answer, and the answer.

    Of every kind of row, `line` is its first line in the file (0: in none), and `columns` has each further
    field of the row as text, to slice and group by. `weight` is above 0; 1 is what every row has unless it
    says otherwise.
    """

    messages: tuple[Message, ...]
    completion: str
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def key(self) -> str:
        """What tells prompts apart: everything but the answer."""
        return as_text(self.messages)


@dataclass(frozen=True, slots=True)
class Preference:
    """For preference training (DPO): two answers to one prompt, the better one first."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells prompts apart: everything but the answers."""
        return as_text(self.messages)


@dataclass(frozen=True, slots=True)
class Rated:
    """For training by ratings (KTO): an answer, and whether it was liked."""

    messages: tuple[Message, ...]
    completion: str
    liked: bool
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells prompts apart: everything but the answer."""
        return as_text(self.messages)


@dataclass(frozen=True, slots=True)
class Text:
    """For domain adaptation: text as it is."""

    text: str
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells texts apart: all of it."""
        return self.text


Row = Example | Preference | Rated | Text
ROW_TYPES: Mapping[Kind, type[Row]] = {
    "examples": Example,
    "preferences": Preference,
    "rated": Rated,
    "texts": Text,
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of one kind, in the order of their source, which is named as the user named it.

    `notes` say in words what reading left out on purpose. Of `held_out` nothing may be trained on.
    """

    kind: Kind
    rows: tuple[Row, ...]
    source: str
    notes: tuple[str, ...] = ()
    held_out: tuple[Row, ...] = ()


def as_text(messages: Sequence[Message]) -> str:
    """Return messages as one text, a line for each that begins with who speaks."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
