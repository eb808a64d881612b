"""A reference turned into what a detector needs: `calibrate`.

The reference is split in two. *Shape rows* draw regions of inputs (`monitoring.detector.views`), *level rows*
say how often traffic like the reference falls into each (`monitoring.detector.levels`). A subject's rows are
all on one side; rows without a subject go by runs of consecutive ones.

Each bound may fail with some chance. `options.risk` is shared by the regions as the bets are: so much of it
goes to each region that is fixed here, and to those that a detector learns later, `options.refreshes` times
at most. That is what the finite reference is asked to pay for, and no more is asked of it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.levels import (
    BLOCK_ROWS,
    NO_BOUND,
    ReferenceRows,
    day_starts,
    design_effect,
    levels,
)
from monitoring.detector.sample import (
    DAY_S,
    EMBEDDING,
    DetectorOptions,
    FloatArray,
    Sample,
    TooLittle,
    Vectors,
    days_of,
    take,
)
from monitoring.detector.views import (
    EmbeddingView,
    NumberView,
    document_of,
    embedding_view,
    number_view,
    number_view_of,
)

VERSION = 2
LEARNED_SHARE = 0.3
_SHAPE_SHARE = 1 / 3
_LEAST_PRESENT = 200


@dataclass(frozen=True, slots=True)
class Regions:
    """All fixed regions, one entry each. `weight` is a region's share of all bets."""

    stream: list[str]
    name: list[str]
    found: FloatArray
    bound: FloatArray
    weight: FloatArray
    design_effect: FloatArray
    level_rows: FloatArray

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that is kept of a reference: a JSON document and arrays (stored as .npz, without pickle)."""

    options: DetectorOptions
    rows: int
    days: float
    embedding: EmbeddingView | None
    numbers: dict[str, NumberView]
    regions: Regions
    reference: ReferenceRows
    coordinates: NDArray[np.float32]

    @property
    def streams(self) -> list[str]:
        """The streams' names."""
        return [*([EMBEDDING] if self.embedding is not None else []), *self.numbers]

    @property
    def embedding_weight(self) -> float:
        """The share of all bets that embeddings get: half where there are numbers too."""
        return _embedding_weight(embedded=self.embedding is not None, numbers=len(self.numbers))

    @property
    def learned_risk(self) -> float:
        """The chance that any bound of a learned region fails, of all that are ever learned."""
        return self.options.risk * self.embedding_weight * LEARNED_SHARE

    @property
    def fingerprint(self) -> str:
        """Tell one calibration from another."""
        return f"{zlib.crc32(self.regions.bound.tobytes() + self.coordinates.tobytes()):08x}"

    def strata(self, vectors: Vectors) -> NDArray[np.int64]:
        """Return each row's cluster of the reference's inputs, -1 where it is unlike any of them."""
        if self.embedding is None:
            return np.zeros(len(vectors), dtype=np.int64)
        return self.embedding.strata(vectors)

    def document(self) -> dict[str, Any]:
        """Return what is no array, as JSON."""
        return {
            "version": VERSION,
            "options": asdict(self.options),
            "rows": self.rows,
            "days": self.days,
            "numbers": {name: document_of(view) for name, view in self.numbers.items()},
            "regions": [
                {"stream": stream, "name": name}
                for stream, name in zip(self.regions.stream, self.regions.name, strict=True)
            ],
            "design_effect": self.reference.design_effect,
            "embedded": self.embedding is not None,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        regions = {
            f"regions_{name}": getattr(self.regions, name)
            for name in ("found", "bound", "weight", "design_effect", "level_rows")
        }
        embedding = (
            {f"embedding_{name}": getattr(self.embedding, name) for name in EmbeddingView.__slots__}
            if self.embedding is not None
            else {}
        )
        return {
            **regions,
            **embedding,
            "reference_level": self.reference.level,
            "reference_starts": self.reference.starts,
            "reference_parts": self.reference.parts,
            "coordinates": self.coordinates,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the calibration that `document` and `arrays` were taken from.

        Raises:
            ValueError: they are no calibration of this version.
        """
        if document.get("version") != VERSION:
            raise ValueError(f"version {document.get('version')} of a calibration can't be read")
        try:
            embedding = (
                EmbeddingView(**{name: arrays[f"embedding_{name}"] for name in EmbeddingView.__slots__})
                if document["embedded"]
                else None
            )
            return cls(
                options=_options_of(document["options"]),
                rows=document["rows"],
                days=document["days"],
                embedding=embedding,
                numbers={name: number_view_of(view) for name, view in document["numbers"].items()},
                regions=Regions(
                    stream=[region["stream"] for region in document["regions"]],
                    name=[region["name"] for region in document["regions"]],
                    found=arrays["regions_found"],
                    bound=arrays["regions_bound"],
                    weight=arrays["regions_weight"],
                    design_effect=arrays["regions_design_effect"],
                    level_rows=arrays["regions_level_rows"],
                ),
                reference=_reference_of(document, arrays),
                coordinates=arrays["coordinates"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no calibration: {error!r}") from error


def calibrate(reference: Sample, options: DetectorOptions) -> Calibration | TooLittle:
    """Return what a detector needs of a reference, or what the reference lacks.

    Where it is drawn from more rows, it is of whole runs of `BLOCK_ROWS` rows that follow each other, each of
    one day: how much rows resemble each other is measured on those.
    """
    if lacking := _lacking(reference, options):
        return lacking
    level = _level(reference, seed=options.seed)
    shape = take(reference, np.flatnonzero(~level))
    embedded = shape.vectors.shape[1] > 0
    view = embedding_view(shape.vectors, days_of(shape.at), seed=options.seed) if embedded else None
    numbers = {name: number_view(column) for name, column in sorted(shape.numbers.items())}
    share = _embedding_weight(embedded=embedded, numbers=len(numbers))
    each = (1 - share) / max(1, len(numbers))
    measure = _Measure(reference, level, options)
    pieces = [piece for name, one in numbers.items() for piece in measure.number(name, one, each)]
    rows = ReferenceRows.at(level, reference.at)
    if view is not None:
        embedding, rows = measure.embedding(view, share)
        pieces.insert(0, embedding)
    return Calibration(
        options=options,
        rows=len(reference),
        days=_span(reference),
        embedding=view,
        numbers=numbers,
        regions=_joined(pieces),
        reference=rows,
        coordinates=_coordinates(view, reference),
    )


@dataclass(frozen=True, slots=True)
class _Measure:
    """Measures the levels of a stream's regions on the reference. `share` is the stream's of all bets."""

    sample: Sample
    level: NDArray[np.bool_]
    options: DetectorOptions

    def embedding(self, view: EmbeddingView, share: float) -> tuple[Regions, ReferenceRows]:
        inside = view.inside(self.sample.vectors, days_of(self.sample.at))
        rows = self._rows(inside, np.ones(len(inside), dtype=np.bool_))
        return self._regions(EMBEDDING, view.names, share * view.weights, inside, rows), rows

    def number(self, name: str, view: NumberView, share: float) -> Iterator[Regions]:
        """Yield the tails' regions, measured where the number is present, and "absent"."""
        values = self.sample.numbers[name]
        inside = view.inside(values)
        weights = share * view.weights
        present = np.isfinite(values)
        if (present & self.level).sum() >= _LEAST_PRESENT and len(view.names) > 1:
            some = inside[present, :-1]
            rows = self._rows(some, present)
            yield self._regions(name, view.names[:-1], weights[:-1], some, rows)
        else:
            yield self._unused(name, view)
        absent = inside[:, -1:]
        rows = self._rows(absent, np.ones(len(absent), dtype=np.bool_))
        yield self._regions(name, view.names[-1:], weights[-1:], absent, rows)

    def _rows(self, inside: NDArray[np.bool_], present: NDArray[np.bool_]) -> ReferenceRows:
        at = self.sample.at[present]
        return ReferenceRows.at(self.level[present], at, design_effect(inside, day_starts(at)))

    def _regions(
        self,
        stream: str,
        names: list[str],
        weights: FloatArray,
        inside: NDArray[np.bool_],
        rows: ReferenceRows,
    ) -> Regions:
        count = len(names)
        found = levels(
            inside,
            rows,
            chance=self.options.risk * weights,
            day_tolerance=self.options.day_tolerance,
            tolerance=self.options.tolerance,
        )
        return Regions(
            [stream] * count,
            names,
            found.found,
            found.bound,
            weights,
            np.full(count, rows.design_effect),
            np.full(count, float(rows.level_count)),
        )

    def _unused(self, name: str, view: NumberView) -> Regions:
        """Return regions that no row counts for: the number is present too rarely to have a level."""
        count = len(view.names) - 1
        return Regions(
            [name] * count,
            view.names[:-1],
            np.ones(count),
            np.full(count, NO_BOUND),
            np.zeros(count),
            np.ones(count),
            np.zeros(count),
        )


def _options_of(document: dict[str, Any]) -> DetectorOptions:
    # A number of rows to thin to was an option once; rows that are apart say nothing of how alike they are.
    return DetectorOptions(**{name: value for name, value in document.items() if name != "most_rows"})


def _reference_of(document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ReferenceRows:
    level = arrays["reference_level"]
    # Calibrations were once kept without the hours; their rows count as of one part of the day.
    parts = arrays.get("reference_parts", np.zeros(len(level), dtype=np.uint8))
    return ReferenceRows(level, arrays["reference_starts"], parts, document["design_effect"])


def _joined(pieces: list[Regions]) -> Regions:
    return Regions(
        [stream for piece in pieces for stream in piece.stream],
        [name for piece in pieces for name in piece.name],
        np.concatenate([piece.found for piece in pieces]),
        np.concatenate([piece.bound for piece in pieces]),
        np.concatenate([piece.weight for piece in pieces]),
        np.concatenate([piece.design_effect for piece in pieces]),
        np.concatenate([piece.level_rows for piece in pieces]),
    )


def _embedding_weight(*, embedded: bool, numbers: int) -> float:
    if not embedded:
        return 0.0
    return 0.5 if numbers else 1.0


def _lacking(reference: Sample, options: DetectorOptions) -> TooLittle | None:
    rows, days = len(reference), _span(reference)
    if rows >= options.min_rows and days >= options.min_days:
        return None
    return TooLittle(
        f"the reference has {rows} rows over {days:.1f} days; {options.min_rows} rows over "
        f"{options.min_days:g} days are needed",
        rows,
        days,
        options.min_rows,
        options.min_days,
    )


def _span(sample: Sample) -> float:
    return float(sample.at[-1] - sample.at[0]) / DAY_S if len(sample) else 0.0


def _level(sample: Sample, *, seed: int) -> NDArray[np.bool_]:
    """Return which rows are level rows; the others are shape rows."""
    runs = np.random.default_rng(seed).random(len(sample) // BLOCK_ROWS + 1)
    draws = np.array(
        [
            runs[place // BLOCK_ROWS] if unit is None else zlib.crc32(f"{seed}:{unit}".encode()) / 2**32
            for place, unit in enumerate(sample.units)
        ]
    )
    shape: NDArray[np.bool_] = draws < np.quantile(draws, _SHAPE_SHARE)
    if not 0.1 < shape.mean() < 0.9:  # a few subjects sent nearly everything
        shape = runs[np.arange(len(sample)) // BLOCK_ROWS] < _SHAPE_SHARE
    return ~shape


def _coordinates(view: EmbeddingView | None, sample: Sample) -> NDArray[np.float32]:
    if view is None:
        return np.zeros((len(sample), 0), dtype=np.float32)
    return view.coordinates(sample.vectors)
