"""From rows of any kind to token ids, as each method of training wants them."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.config import TrainConfig
from training.data.rows import DataError, Example, Preference, Rated, Row, Text
from training.fitting.template import Encoded, Template


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt with a better and a worse answer, each with its end of turn."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def __len__(self) -> int:
        """Return the length in tokens of the longer of the two."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class EncodedRating:
    """A prompt with an answer that was liked or not."""

    prompt: list[int]
    completion: list[int]
    liked: bool

    def __len__(self) -> int:
        """Return the length in tokens."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text, or a piece of a long one; the last piece has the token that ends a text."""

    ids: list[int]

    def __len__(self) -> int:
        """Return the length in tokens."""
        return len(self.ids)


EncodedRow = Encoded | EncodedPair | EncodedRating | EncodedText
_WANTED = {"sft": Example, "dpo": Preference, "kto": Rated, "domain": Text}
_KIND = {Example: "examples", Preference: "preference pairs", Rated: "rated answers", Text: "texts"}
MIN_PIECE = 2
"""A piece of one token has nothing to predict."""


def encode(
    template: Template, rows: Sequence[Row], config: TrainConfig, *, max_position: int
) -> tuple[list[EncodedRow], int]:
    """Return the rows that fit into `max_tokens` and the model's positions, and how many do not.

    A cut answer would teach to stop anywhere, so rows that are too long are left out. Texts are cut.

    Raises:
        DataError: the rows are of another kind than the method trains on.
    """
    room = min(config.max_tokens, max_position)
    found: list[EncodedRow] = []
    dropped = 0
    for row in rows:
        if not isinstance(row, _WANTED[config.method]):
            raise DataError(
                f"--method {config.method} trains on {_KIND[_WANTED[config.method]]}, and line {row.line} is "
                f"one of the {_KIND[type(row)]}"
            )
        pieces = _encoded(template, row, room)
        fitting = [piece for piece in pieces if len(piece) <= room]
        dropped += len(pieces) - len(fitting)
        found += fitting
    return found, dropped


def _encoded(template: Template, row: Row, room: int) -> Sequence[EncodedRow]:
    match row:
        case Text():
            return [EncodedText(piece) for piece in cut(template.text_ids(row.text), room)]
        case Preference():
            prompt = template.prompt_ids(template.messages(row))
            return [EncodedPair(prompt, template.ended(row.chosen), template.ended(row.rejected))]
        case Rated():
            prompt = template.prompt_ids(template.messages(row))
            return [EncodedRating(prompt, template.ended(row.completion), row.liked)]
        case Example():
            return [template.encode(row)]


def cut(ids: list[int], room: int) -> list[list[int]]:
    """Return a long text's ids in pieces of `room` tokens; a last one too short to learn from is left out."""
    pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
    return [piece for piece in pieces if len(piece) >= MIN_PIECE]
