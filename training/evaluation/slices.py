"""Parts of the rows, and what each says: by a column of the data, and by the length of the prompt.

Many slices make many chances to err. So a slice that is judged gets an interval at 1 - 0.05 / m, where m is
how many are judged (Bonferroni), and p-values are Holm's. One with fewer than `MIN_UNITS` rows (or groups of
rows) is shown and not judged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Example
from training.evaluation.asking import is_text
from training.evaluation.figures import Figure, measure_of
from training.evaluation.paired import holm, p_value
from training.evaluation.resampling import LEVEL, Interval, Resampling, difference, interval

MIN_UNITS = 50
MAX_VALUES = 30
LENGTH = "prompt length"
TEXT_LENGTH = "text length"
MISSING = "(none)"
_THIRDS = ("short", "middle", "long")


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some of the rows, by their places."""

    column: str
    value: str
    places: NDArray[np.int64]

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return f"{self.column} = {self.value}"


@dataclass(frozen=True, slots=True)
class SliceFigure:
    """The main figure in one slice, beside all other rows."""

    name: str
    rows: int
    judged: bool
    metric: str
    here: Interval
    from_rest: Interval | None


@dataclass(frozen=True, slots=True)
class SliceGap:
    """The candidate minus another system in one slice. `p_holm` is None for one that is not judged."""

    name: str
    rows: int
    judged: bool
    metric: str
    against: str
    gap: Interval
    p_holm: float | None


def slices_of(rows: Sequence[Example], columns: Sequence[str]) -> list[Slice]:
    """Return the slices by each column, the commonest value first, and by thirds of what comes in by length.

    Raises:
        ValueError: no row has the column, or it has too many values to be one of slices.
    """
    return [part for column in columns for part in _by_column(rows, column)] + _by_length(rows)


def figures_in(
    slices: Sequence[Slice], figure: Figure, resampling: Resampling, *, seed: int, beside_rest: bool = True
) -> list[SliceFigure]:
    """Return a system's figure in every slice, and how far the judged ones are from all other rows."""
    judged = {part.name for part in slices if _judged(part, resampling)}
    level = 1 - (1 - LEVEL) / max(1, len(judged))
    found: list[SliceFigure] = []
    for part in slices:
        own, rest = figure.at(part.places), _rest(part, len(figure.table))
        here = resampling.at(part.places)
        alone = not beside_rest or part.name not in judged or len(rest) == 0
        found.append(
            SliceFigure(
                part.name,
                len(part.places),
                part.name in judged,
                figure.metric,
                interval(own, here),
                None
                if alone
                else _apart((own, here), (figure.at(rest), resampling.at(rest)), level=level, seed=seed),
            )
        )
    return found


def gaps_in(
    slices: Sequence[Slice], ours: Figure, theirs: Figure, resampling: Resampling, against: str
) -> list[SliceGap]:
    """Return the paired difference of two systems in every slice, at the level of so many judged ones."""
    judged = [part for part in slices if _judged(part, resampling)]
    level = 1 - (1 - LEVEL) / max(1, len(judged))
    raw = [
        p_value(ours.at(part.places), theirs.at(part.places), resampling.at(part.places)) for part in judged
    ]
    adjusted = dict(zip([part.name for part in judged], holm(raw), strict=True))
    return [
        SliceGap(
            part.name,
            len(part.places),
            part.name in adjusted,
            ours.metric,
            against,
            difference(
                ours.at(part.places),
                theirs.at(part.places),
                resampling.at(part.places),
                level=level if part.name in adjusted else LEVEL,
            ),
            adjusted.get(part.name),
        )
        for part in slices
    ]


def weakest(found: Sequence[SliceFigure]) -> SliceFigure | None:
    """Return the judged slice that stands worst beside the other rows, or None where none is judged."""
    judged = [each for each in found if each.judged and each.from_rest is not None]
    return min(judged, key=lambda each: _worth(each.from_rest, each.metric), default=None)


def most_harmed(found: Sequence[SliceGap]) -> SliceGap | None:
    """Return the judged slice in which the candidate does worst against the other system."""
    judged = [each for each in found if each.judged]
    return min(judged, key=lambda each: _worth(each.gap, each.metric), default=None)


def _worth(gap: Interval | None, metric: str) -> float:
    if gap is None:
        return 0.0
    return -gap.value if measure_of(metric).better == "lower" else gap.value


def _judged(part: Slice, resampling: Resampling) -> bool:
    return resampling.at(part.places).units >= MIN_UNITS


def _rest(part: Slice, rows: int) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(rows), part.places)


def _apart(
    inside: tuple[Figure, Resampling], outside: tuple[Figure, Resampling], *, level: float, seed: int
) -> Interval:
    """Return how far a slice's figure is from the other rows': percentiles of independent resamples."""
    (own, here), (rest, there) = inside, outside
    shuffled = np.random.default_rng([seed, 3])
    ours = own.finish(here.sums(own.table, level=level))
    theirs = rest.finish(there.sums(rest.table, level=level))
    # Both were drawn from the same seed; in another order they no longer go together.
    drawn = ours - theirs[shuffled.permutation(len(theirs))]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(own.value - rest.value, float(low), float(high))


def _by_column(rows: Sequence[Example], column: str) -> list[Slice]:
    if not any(column in row.columns for row in rows):
        there = sorted({name for row in rows for name in row.columns})
        raise ValueError(
            f"--slice {column}: no row has that field; there are {', '.join(there) or 'no further fields'}"
        )
    values = [row.columns.get(column, MISSING) for row in rows]
    counts = Counter(values)
    if len(counts) > MAX_VALUES:
        raise ValueError(
            f"--slice {column} has {len(counts)} values; a field with at most {MAX_VALUES} makes slices"
        )
    ordered = sorted(counts, key=lambda value: (-counts[value], value))
    return [Slice(column, value, _places(values, value)) for value in ordered]


def _by_length(rows: Sequence[Example]) -> list[Slice]:
    """Return thirds by the characters of prompts or texts, or nothing where those are as good as equal."""
    name = TEXT_LENGTH if all(is_text(row) for row in rows) else LENGTH
    lengths = np.array([len(row.completion if is_text(row) else row.key) for row in rows])
    low, high = (int(edge) for edge in np.quantile(lengths, [1 / 3, 2 / 3]))
    thirds = [
        _THIRDS[0] if length <= low else _THIRDS[1] if length <= high else _THIRDS[2] for length in lengths
    ]
    ranges: Mapping[str, str] = {
        _THIRDS[0]: f"up to {low} characters",
        _THIRDS[1]: f"{low + 1} to {high}",
        _THIRDS[2]: f"over {high}",
    }
    if len(set(thirds)) < len(_THIRDS):
        return []
    return [Slice(name, ranges[third], _places(thirds, third)) for third in _THIRDS]


def _places(values: Sequence[str], value: str) -> NDArray[np.int64]:
    return np.array([place for place, found in enumerate(values) if found == value], dtype=np.int64)
