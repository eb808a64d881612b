"""Vectors of prompts, to tell how far they are from what a version was trained on."""

import logging
from collections.abc import Sequence
from typing import Any

from adapters.manifest import EmbeddingSample
from gateway.store.requests import Requests
from training.data import embedding
from training.data.rows import Example

WATCH_MODEL = "all-MiniLM-L6-v2"
"""What the drift monitor calls the same model, whose vectors it keeps."""

_log = logging.getLogger("turnout.curation")


def reference_of(sample: EmbeddingSample | None) -> Any:
    """Return the unit vectors of what a version was trained on; None where its manifest has none of ours."""
    if sample is None or sample.model != embedding.MODEL:
        return None
    return embedding.unpacked(sample)


class Prompts:
    """Vectors of requests' prompts: those that the drift monitor has kept, the others computed."""

    def __init__(self, requests: Requests, *, dimensions: int) -> None:
        self._requests = requests
        self._dimensions = dimensions

    def __call__(self, asked: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> Any:
        """Return one unit vector a request, of shape (requests, dimensions).

        Raises:
            EmbeddingUnavailable: some must be computed, and the model is not installed.
        """
        import numpy as np  # noqa: PLC0415 - the options are wanted without it

        kept = self._kept([key for key, _ in asked])
        found = np.zeros((len(asked), self._dimensions))
        missing = [place for place, (key, _) in enumerate(asked) if key not in kept]
        for place, (key, _) in enumerate(asked):
            if key in kept:
                found[place] = kept[key]
        if missing:
            rows = [Example(tuple(asked[place][1]), "") for place in missing]
            found[missing] = embedding.embedded(rows)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def _kept(self, ids: Sequence[str]) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415 - as above

        kept = self._requests.embeddings.find(ids, model=WATCH_MODEL)
        found = {key: np.frombuffer(vector, dtype=np.float16) for key, vector in kept.items()}
        return {key: vector for key, vector in found.items() if len(vector) == self._dimensions}
