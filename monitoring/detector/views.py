"""Regions of inputs, drawn from one part of the reference: novel rows, clusters, tails of numbers.

Everything here is a function of the *shape rows* of the reference alone, so that the other part, the *level
rows*, can say how often traffic like the reference falls into each region.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.sample import FloatArray, Vectors

_PROTOTYPES = 1000
_NEIGHBOURS = 10
_CLUSTERS = 12
_ROUNDS = 12
_COMPONENTS = 128
_RIDGE = 0.1
_NOVEL_LEVELS = (0.8, 0.95, 0.98, 0.99)
_UNLIKE_LEVEL = 1
# Of the embeddings' bets; what is left is for learned directions.
_NOVEL_SHARE, _CLUSTER_SHARE = 0.5, 0.2
UNLIKE = -1  # the stratum of rows that are like nothing in the reference
_TAILS = (0.5, 0.8, 0.95, 0.99)
_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class EmbeddingView:
    """Regions of embeddings: rows far from every prototype, and nearest to one of the clusters.

    `projection` takes a vector less `centre` to coordinates in which the reference has about the same
    spread in every direction.
    """

    prototypes: NDArray[np.float32]
    prototype_days: NDArray[np.int64]
    novel_above: FloatArray
    clusters: NDArray[np.float32]
    centre: NDArray[np.float32]
    projection: NDArray[np.float32]

    @property
    def names(self) -> list[str]:
        """The regions' names, in the order of `inside`."""
        return [
            *(f"novel beyond {level:.0%}" for level in _NOVEL_LEVELS),
            *(f"cluster {place}" for place in range(len(self.clusters))),
        ]

    @property
    def weights(self) -> FloatArray:
        """How much of the embeddings' bets each region gets; what is left is for learned directions."""
        novel, clusters = len(_NOVEL_LEVELS), len(self.clusters)
        return np.concatenate(
            [np.full(novel, _NOVEL_SHARE / novel), np.full(clusters, _CLUSTER_SHARE / clusters)]
        )

    def inside(self, vectors: Vectors, days: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows are in which regions: shape (rows, regions).

        Prototypes of a row's day of `days` don't count: for the reference's rows their own day, since what
        is said often on one day would look less novel among them than among later ones; for later rows a
        day of the reference `in_turn`, so that all are compared with equally many.
        """
        parts = []
        for start in range(0, len(vectors), _AT_ONCE):
            part = _single(vectors[start : start + _AT_ONCE])
            own = days[start : start + _AT_ONCE]
            novel = self._novelty(part, own)[:, None] > self.novel_above
            member = self._nearest(part)[:, None] == np.arange(len(self.clusters))
            parts.append(np.concatenate([novel, member], axis=1))
        return np.concatenate(parts) if parts else np.zeros((0, len(self.names)), dtype=np.bool_)

    def in_turn(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the days whose prototypes don't count for later rows, from row number `first` on."""
        days = np.unique(self.prototype_days)
        turn: NDArray[np.int64] = days[(first + np.arange(count)) % len(days)]
        return turn

    def strata(self, vectors: Vectors) -> NDArray[np.int64]:
        """Return the nearest cluster of each row, `UNLIKE` where it is unlike 95 % of the reference."""
        part = _single(vectors)
        unlike = self._novelty(part, None) > self.novel_above[_UNLIKE_LEVEL]
        return np.where(unlike, UNLIKE, self._nearest(part))

    def coordinates(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return the rows in the coordinates of `projection`."""
        return _single((_single(vectors) - self.centre) @ self.projection)

    def _nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        nearest: NDArray[np.int64] = (vectors @ self.clusters.T).argmax(axis=1)
        return nearest

    def _novelty(self, vectors: NDArray[np.float32], days: NDArray[np.int64] | None) -> NDArray[np.float32]:
        return _distance(vectors, days, self.prototypes, self.prototype_days)


@dataclass(frozen=True, slots=True)
class NumberView:
    """Regions of one number: above or below quantiles of the shape rows, and absent."""

    above: FloatArray
    below: FloatArray

    @property
    def names(self) -> list[str]:
        """The regions' names, in the order of `inside`."""
        return [
            *(f"above {edge:g}" for edge in self.above),
            *(f"below {edge:g}" for edge in self.below),
            "absent",
        ]

    @property
    def weights(self) -> FloatArray:
        """How much of the number's bets each region gets."""
        count = len(self.above) + len(self.below) + 1
        return np.full(count, 1 / count)

    def inside(self, values: FloatArray) -> NDArray[np.bool_]:
        """Return which rows are in which regions: shape (rows, regions); the last one holds absent values."""
        column = values[:, None]
        return np.concatenate([column > self.above, column < self.below, np.isnan(column)], axis=1)


def embedding_view(vectors: Vectors, days: NDArray[np.int64], *, seed: int) -> EmbeddingView:
    """Draw the regions of embeddings from shape rows."""
    rows = _single(vectors)
    chosen = np.linspace(0, len(rows) - 1, min(_PROTOTYPES, len(rows))).astype(np.int64)
    prototypes, prototype_days = rows[chosen], days[chosen]
    novelty = _distance(rows, days, prototypes, prototype_days)
    centre = rows.mean(axis=0)
    return EmbeddingView(
        prototypes=prototypes,
        prototype_days=prototype_days,
        novel_above=np.quantile(novelty, _NOVEL_LEVELS).astype(np.float64),
        clusters=_clusters(rows, seed=seed),
        centre=centre,
        projection=_projection(rows - centre),
    )


def number_view(values: FloatArray) -> NumberView:
    """Draw the regions of a number from shape rows; none but "absent" where no value is present."""
    present = values[np.isfinite(values)]
    if not len(present):
        return NumberView(np.zeros(0), np.zeros(0))
    edges = np.quantile(present, _TAILS, method="higher")
    lower = np.quantile(present, [1 - tail for tail in _TAILS], method="lower")
    return NumberView(np.unique(edges), np.unique(lower))


def document_of(view: NumberView) -> dict[str, Any]:
    """Return a number's regions as JSON."""
    return {"above": view.above.tolist(), "below": view.below.tolist()}


def number_view_of(document: dict[str, Any]) -> NumberView:
    """Return the regions of `document_of`."""
    return NumberView(np.array(document["above"], float), np.array(document["below"], float))


def _single(vectors: Vectors) -> NDArray[np.float32]:
    return np.asarray(vectors, dtype=np.float32)


def _distance(
    vectors: NDArray[np.float32],
    days: NDArray[np.int64] | None,
    prototypes: NDArray[np.float32],
    prototype_days: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return how far rows are from their nearest prototypes, 0 to 2, without those of their own day."""
    found = np.empty(len(vectors), dtype=np.float32)
    count = min(_NEIGHBOURS, len(prototypes))
    for start in range(0, len(vectors), _AT_ONCE):
        alike = vectors[start : start + _AT_ONCE] @ prototypes.T
        if days is not None:
            alike[days[start : start + _AT_ONCE, None] == prototype_days] = -1
        nearest = np.partition(alike, -count, axis=1)[:, -count:]
        found[start : start + _AT_ONCE] = 1 - nearest.mean(axis=1)
    return found


def _clusters(rows: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Return the unit centres of k-means by the cosine."""
    count = min(_CLUSTERS, len(rows))
    generator = np.random.default_rng(seed)
    centres = rows[generator.choice(len(rows), count, replace=False)]
    for _ in range(_ROUNDS):
        nearest = (rows @ centres.T).argmax(axis=1)
        for place in range(count):
            members = rows[nearest == place]
            if len(members):
                centre = members.mean(axis=0)
                centres[place] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    return centres


def _projection(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return principal axes, each divided by its spread, with a ridge for those with next to none."""
    covariance = centred.T.astype(np.float64) @ centred / max(1, len(centred) - 1)
    values, axes = np.linalg.eigh(covariance)
    kept = min(_COMPONENTS, len(values), max(1, len(centred) - 1))
    values, axes = values[::-1][:kept].clip(min=0), axes[:, ::-1][:, :kept]
    ridge = _RIDGE * float(values.mean()) + 1e-12
    return np.asarray(axes / np.sqrt(values + ridge), dtype=np.float32)
