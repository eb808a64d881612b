"""How work on an adapter says how far it is."""

from typing import Literal, Protocol

Stage = Literal["fetching", "checking", "storing"]


class Progress(Protocol):
    """Told now and then. `total_bytes` is None while nobody knows."""

    def __call__(self, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        """Take note; must return soon and raise nothing."""


def silent(stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
    """Take no note."""
