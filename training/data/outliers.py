"""Rows that are unlike the others: far longer or shorter, or far from all of them in meaning. Pure."""

from collections.abc import Sequence
from typing import Any

FAR = 6.0
"""How many robust standard deviations are far; of 10,000 normal ones none is expected beyond."""

MIN_ROWS = 20
NEIGHBOURS = 5
_TO_SIGMA = 0.6745  # the median absolute deviation of a normal distribution with sigma 1


def by_length(lengths: Sequence[int]) -> list[int]:
    """Return the places of lengths that are far from the median on a log scale, the farthest first."""
    import numpy as np  # noqa: PLC0415 - the options are wanted without it

    return _far(np.log1p(np.asarray(lengths, dtype=np.float64)), both=True)


def by_meaning(vectors: Any) -> list[int]:
    """Return the places of unit vectors that are far from their five nearest ones, the farthest first."""
    import numpy as np  # noqa: PLC0415

    if len(vectors) < MIN_ROWS:
        return []
    similar = np.asarray(vectors, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64).T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.partition(similar, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return _far(1.0 - nearest.mean(axis=1), both=False)


def _far(values: Any, *, both: bool) -> list[int]:
    import numpy as np  # noqa: PLC0415

    if len(values) < MIN_ROWS:
        return []
    centred = values - np.median(values)
    spread = float(np.median(np.abs(centred)))
    if spread == 0:
        return []
    scores = _TO_SIGMA * centred / spread
    scores = np.abs(scores) if both else scores
    return [int(place) for place in np.argsort(-scores, kind="stable") if scores[place] > FAR]
