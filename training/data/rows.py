"""One training row, and the error that says what is wrong with the data."""

from dataclasses import dataclass

ROLES = ("system", "user", "assistant")
Message = dict[str, str]


class DataError(ValueError):
    """The data can't be trained on; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row: the messages before the answer, and the answer. `line` is its first line in the file."""

    messages: tuple[Message, ...]
    completion: str
    line: int = 0

    @property
    def key(self) -> str:
        """What tells prompts apart: everything but the answer."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in self.messages)
