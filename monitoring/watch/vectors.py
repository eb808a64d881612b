"""Vectors of prompts: those that are stored, and the rest computed once and stored."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.store.embeddings import Embeddings
from gateway.store.traffic import Watched

VectorArray = NDArray[np.float32]
_AT_ONCE = 256
"""So many are computed and then stored: no more is lost when the process ends."""
_LONGEST_NAME = 200


class Encoder(Protocol):
    """What turns texts into unit vectors."""

    name: str

    def encode(self, texts: Sequence[str], /) -> VectorArray:
        """Return one unit vector a text."""
        ...


class Vectors:
    """The vectors of one model."""

    def __init__(self, stored: Embeddings, encoder: Encoder) -> None:
        self._stored = stored
        self._encoder = encoder

    @property
    def model(self) -> str:
        """The model's name, as vectors are stored under it."""
        name = self._encoder.name
        return name if len(name) <= _LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()

    def of(self, rows: Sequence[Watched]) -> VectorArray:
        """Return one unit vector a row, of its prompt, in half precision.

        Raises:
            EmbeddingUnavailable: the model is missing.
            StoreUnavailable: the store can't be read or written.
        """
        known = self._stored.find([each.row.id for each in rows], model=self.model)
        missing = [each for each in rows if each.row.id not in known]
        for start in range(0, len(missing), _AT_ONCE):
            known |= self._computed(missing[start : start + _AT_ONCE])
        if not rows:
            return np.zeros((0, 0), dtype=np.float32)
        return np.stack([np.frombuffer(known[each.row.id], dtype=np.float16) for each in rows]).astype(
            np.float32
        )

    def found(self, ids: Sequence[str]) -> dict[str, VectorArray]:
        """Return the vectors that are stored of these requests."""
        stored = self._stored.find(ids, model=self.model)
        return {
            key: np.frombuffer(vector, dtype=np.float16).astype(np.float32) for key, vector in stored.items()
        }

    def _computed(self, rows: Sequence[Watched]) -> dict[str, bytes]:
        prompts = [each.row.prompt or "" for each in rows]
        distinct = list(dict.fromkeys(prompts))
        made = dict(zip(distinct, self._encoder.encode(distinct), strict=True))
        vectors = {
            each.row.id: made[prompt].astype(np.float16).tobytes()
            for each, prompt in zip(rows, prompts, strict=True)
        }
        self._stored.add(vectors, model=self.model)
        return vectors
