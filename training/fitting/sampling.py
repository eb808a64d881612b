"""The order of rows that are padded: batches of like length, the same ones for the same epoch and seed."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class GroupedByLength(Sampler):  # type: ignore[misc]  # torch is skipped by the type checker
    """The library's grouping with random numbers of its own.

    The library draws from those that training uses too, so that a run resumed in its second epoch would see
    other batches than one that was not stopped.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the rows' numbers in this epoch's order."""
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from get_length_grouped_indices(self._lengths, self._batch_size, generator=generator)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch."""
        self._epoch = epoch
