"""How far traffic lies from what the version was trained on. A report; it triggers nothing.

Training rows are curated and balanced, and traffic never was: the distance says what a version did not see,
and not that anything changed.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monitoring.embed import DEFAULT_MODEL
from monitoring.watch.vectors import VectorArray

_WHEEL = "all-minilm-l6-v2"
"""What training calls the default model by: the name of its wheel, with a version."""

_FAR = 0.05
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Coverage:
    """`nearest` is the median similarity of a prompt to the training prompt that is nearest to it.

    `far` is the share of prompts that lie further from every training prompt of the sample than 95 % of those
    lie from each other (0.05 for prompts like them). `training_rows` is the sample's size.
    """

    nearest: float
    nearest_in_training: float
    far: float
    training_rows: int

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def sample_of(manifest: Mapping[str, Any], *, model: str) -> VectorArray | None:
    """Return the embeddings of training prompts that a manifest holds; None without, or of another model.

    They are in `lineage.embedding_sample` (docs/data.md).
    """
    kept = (manifest.get("lineage") or {}).get("embedding_sample")
    if not isinstance(kept, Mapping) or model != DEFAULT_MODEL or _WHEEL not in str(kept["model"]):
        return None
    whole = np.frombuffer(base64.b64decode(kept["vectors"]), dtype=np.int8)
    vectors = whole.reshape(int(kept["rows"]), int(kept["dimensions"])).astype(np.float32)
    unit: VectorArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def coverage(training: VectorArray, traffic: VectorArray) -> Coverage | None:
    """Compare prompts with a sample of training prompts; None when there is too little of either."""
    if len(training) < 2 or not len(traffic) or training.shape[1] != traffic.shape[1]:
        return None
    among = training @ training.T
    np.fill_diagonal(among, -np.inf)
    own = among.max(axis=1)
    nearest = np.concatenate(
        [
            (traffic[start : start + _AT_ONCE] @ training.T).max(axis=1)
            for start in range(0, len(traffic), _AT_ONCE)
        ]
    )
    return Coverage(
        nearest=float(np.median(nearest)),
        nearest_in_training=float(np.median(own)),
        far=float((nearest < np.quantile(own, _FAR)).mean()),
        training_rows=len(training),
    )
