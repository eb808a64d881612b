"""From encoded rows to a batch: padded, or put end to end; labels cover what has a loss."""

from collections.abc import Sequence
from typing import Any

import torch

from training.config import TrainConfig
from training.fitting.attention import LENGTHS
from training.fitting.encoding import EncodedRow, EncodedText
from training.fitting.loss import IGNORED
from training.fitting.packing import bins
from training.fitting.template import Encoded

Item = dict[str, Any]
"""One row of a trainer's data set: the ids of its documents, and how many at each one's end have a loss."""


def items(rows: Sequence[EncodedRow], config: TrainConfig, *, packed: bool) -> list[Item]:
    """Return the rows as a trainer's data set. Where they are packed, texts share rows of `max_tokens`."""
    documents = [_document(row) for row in rows]
    if config.method != "domain" or not packed:
        return [_item([document]) for document in documents]
    shared = bins([len(ids) for ids, _ in documents], config.max_tokens)
    return [_item([documents[number] for number in numbers]) for numbers in shared]


def _document(row: EncodedRow) -> tuple[list[int], int]:
    match row:
        case Encoded():
            return row.prompt + row.completion, len(row.completion)
        case EncodedText():
            return row.ids, len(row.ids) - 1  # nothing foretells the first token
    raise TypeError(f"{type(row).__name__} has no loss by the token")


def _item(documents: Sequence[tuple[list[int], int]]) -> Item:
    return {
        "input_ids": [token for ids, _ in documents for token in ids],
        "lengths": [len(ids) for ids, _ in documents],
        "answers": [answer for _, answer in documents],
    }


class Collator:
    """Rows of one document each to one padded batch."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[Item]) -> dict[str, Any]:
        """Pad on the left to the longest row, so that the answers end together."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self._pad_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED)
        for number, row in enumerate(rows):
            whole, (answer,) = row["input_ids"], row["answers"]
            ids[number, -len(whole) :] = torch.tensor(whole)
            mask[number, -len(whole) :] = 1
            labels[number, -answer:] = ids[number, -answer:]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class EndToEnd:
    """Rows of one or more documents each to one row without padding.

    No attention mask is made: with one, documents would see each other. What keeps them apart is the
    documents' lengths, or where the model's own attention runs, the positions that begin again.
    """

    def __call__(self, rows: Sequence[Item]) -> dict[str, Any]:
        """Put all documents end to end, each with positions from 0 and no label on its first token."""
        ids = torch.tensor([token for row in rows for token in row["input_ids"]])
        lengths = [length for row in rows for length in row["lengths"]]
        answers = [answer for row in rows for answer in row["answers"]]
        labels = torch.full_like(ids, IGNORED)
        end = 0
        for length, answer in zip(lengths, answers, strict=True):
            end += length
            first = end - min(answer, length - 1)
            labels[first:end] = ids[first:end]
        return {
            "input_ids": ids[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "labels": labels[None],
            LENGTHS: lengths,
        }
