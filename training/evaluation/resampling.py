"""Intervals by bootstrap over rows, or over clusters of rows, for any figure that is a function of sums.

Units (rows, or all rows of a group together) are drawn with replacement, the same ones for both systems of
a difference (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 14; clusters:
Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Intervals are bias-corrected
and accelerated (BCa: Efron, Better Bootstrap Confidence Intervals, JASA 82, 1987); `method="percentile"`
gives the plain ones.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.figures import Array, Figure

LEVEL = 0.95
RESAMPLES = 2000
MIN_TAIL_DRAWS = 10
"""So many draws at least lie beyond each end of an interval: higher levels take more draws."""

MAX_RESAMPLES = 40_000
_CHUNK = 4_000_000
_TINY = 1e-12
_NORMAL = NormalDist()

Method = Literal["bca", "percentile"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval; 95 % unless it says otherwise where it is used."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether a difference of 0 lies outside."""
        return self.low > 0 or self.high < 0


class Resampling:
    """The same draws of units for every figure on the same rows."""

    def __init__(self, units: int | Sequence[object], *, seed: int, resamples: int = RESAMPLES) -> None:
        """Take the number of rows, or for each row the group that it is drawn with.

        Raises:
            ValueError: there are no rows.
        """
        groups = list(range(units)) if isinstance(units, int) else list(units)
        if not groups:
            raise ValueError("there are no rows to judge by")
        numbers: dict[object, int] = {}
        self._unit = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
        self._groups = groups
        self._seed = seed
        self._resamples = resamples
        self._kept: dict[tuple[str, int], list[Array]] = {}
        self.rows = len(groups)
        self.units = len(numbers)

    def at(self, places: NDArray[np.int64]) -> "Resampling":
        """Return the draws for some of the rows."""
        kept = [self._groups[int(place)] for place in places]
        return Resampling(kept, seed=self._seed, resamples=self._resamples)

    def by_unit(self, table: Array) -> Array:
        """Return the sums of each unit: a line a unit.

        Raises:
            ValueError: the table has another number of rows.
        """
        if len(table) != self.rows:
            raise ValueError(f"{len(table)} rows can't be paired with {self.rows}")
        if self.units == self.rows:
            return table
        sums = np.zeros((self.units, table.shape[1]))
        np.add.at(sums, self._unit, table)
        return sums

    def sums(self, table: Array, *, level: float = LEVEL) -> Array:
        """Return the sums of each draw: a line a draw."""
        units = self.by_unit(table)
        weighted = self._once("weights", self.draws(level), self._weights)
        return np.concatenate([weights @ units for weights in weighted])

    def draws(self, level: float) -> int:
        """Return how many draws an interval of that level takes."""
        return max(self._resamples, min(MAX_RESAMPLES, math.ceil(2 * MIN_TAIL_DRAWS / (1 - level))))

    def signs(self, count: int) -> Iterator[Array]:
        """Yield `count` lines in all of a random 1 or -1 for each unit, in chunks."""
        yield from self._once("signs", count, self._signs)

    def _once(self, what: str, count: int, make: Callable[[int], Iterator[Array]]) -> Iterable[Array]:
        """Return what `make` makes; it is kept where it is small, since many figures share it."""
        if count * self.units > _CHUNK:
            return make(count)
        if (what, count) not in self._kept:
            self._kept[what, count] = list(make(count))
        return self._kept[what, count]

    def _signs(self, count: int) -> Iterator[Array]:
        generator = np.random.default_rng([self._seed, 1])
        for size in _chunks(count, self.units):
            heads = generator.integers(0, 2, size=(size, self.units)).astype(np.float64)
            yield 2 * heads - 1

    def _weights(self, draws: int) -> Iterator[Array]:
        """Yield how often each unit was drawn, a line a draw, in chunks."""
        generator = np.random.default_rng(self._seed)
        for size in _chunks(draws, self.units):
            drawn = generator.integers(0, self.units, size=(size, self.units))
            drawn += np.arange(size)[:, None] * self.units
            flat = np.bincount(drawn.reshape(-1), minlength=size * self.units)
            yield flat.reshape(size, self.units).astype(np.float64)


def interval(
    figure: Figure, resampling: Resampling, *, level: float = LEVEL, method: Method = "bca"
) -> Interval:
    """Return the figure of one system with its interval.

    Where every row succeeds, or every row fails, resampling shows no spread at all: the open side of the
    interval is then the exact binomial one (Clopper and Pearson, 1934), with a unit for a trial.
    """
    value = figure.value
    if figure.binary and value in (0.0, 1.0):
        room = _exact_room(resampling.units, level)
        return Interval(value, 0.0, room) if value == 0 else Interval(value, 1 - room, 1.0)
    drawn = figure.finish(resampling.sums(figure.table, level=level))
    return _interval(value, drawn, _left_out(figure, resampling), level, method)


def difference(
    first: Figure,
    second: Figure,
    resampling: Resampling,
    *,
    level: float = LEVEL,
    method: Method = "bca",
) -> Interval:
    """Return the first system's figure minus the second's on the same rows, with its interval.

    Two systems that differ in the same way on every row, or on none, show resampling no spread. The interval
    is then what the exact bound on the share of other rows allows.

    Raises:
        ValueError: they have not equally many rows.
    """
    if len(first.table) != len(second.table):
        raise ValueError(f"{len(first.table)} rows can't be paired with {len(second.table)}")
    if first.binary and second.binary:
        apart = first.table[:, 0] - second.table[:, 0]
        if np.all(apart == apart[0]):
            return _unanimous(float(apart[0]), _exact_room(resampling.units, level))
    gaps = [figure.finish(resampling.sums(figure.table, level=level)) for figure in (first, second)]
    left = [_left_out(figure, resampling) for figure in (first, second)]
    return _interval(first.value - second.value, gaps[0] - gaps[1], left[0] - left[1], level, method)


def standard_error(first: Figure, second: Figure | None, resampling: Resampling) -> float:
    """Return the standard error of a figure or a difference, by jackknife (Efron and Tibshirani, ch. 11)."""
    left = _left_out(first, resampling)
    if second is not None:
        left = left - _left_out(second, resampling)
    units = resampling.units
    return math.sqrt((units - 1) / units * float(((left - left.mean()) ** 2).sum()))


def _left_out(figure: Figure, resampling: Resampling) -> Array:
    """Return the figure without each unit in turn."""
    units = resampling.by_unit(figure.table)
    return figure.finish(units.sum(axis=0) - units)


def _interval(value: float, drawn: Array, left_out: Array, level: float, method: Method) -> Interval:
    tail = (1 - level) / 2
    tails = (tail, 1 - tail) if method == "percentile" else _corrected(value, drawn, left_out, tail)
    low, high = (float(end) for end in np.quantile(drawn, tails))
    # Draws of a biased figure (a calibration error near 0) may all lie on one side of it.
    return Interval(value, min(low, value), max(high, value))


def _corrected(value: float, drawn: Array, left_out: Array, tail: float) -> tuple[float, float]:
    """Return the BCa interval's tails: corrected for the median's bias and for how the spread grows."""
    near = _TINY * max(1.0, abs(value))
    below = float(np.mean(drawn < value - near) + np.mean(np.abs(drawn - value) <= near) / 2)
    edge = 1 / (len(drawn) + 1)
    bias = _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    apart = left_out.mean() - left_out
    spread = float((apart**2).sum())
    acceleration = float((apart**3).sum()) / (6 * spread**1.5) if spread > _TINY**2 else 0.0

    def corrected(at: float) -> float:
        shifted = bias + _NORMAL.inv_cdf(at)
        scale = 1 - acceleration * shifted
        # Beyond this the correction turns round; so skewed a figure has no interval on that side.
        return _NORMAL.cdf(bias + shifted / scale) if scale > _TINY else float(shifted > 0)

    return corrected(tail), corrected(1 - tail)


def _unanimous(apart: float, room: float) -> Interval:
    """Return the interval of rows that all say the same, where at most `room` of all rows say otherwise."""
    if apart == 0:
        return Interval(0.0, -room, room)
    return Interval(apart, *((1 - 2 * room, 1.0) if apart > 0 else (-1.0, 2 * room - 1)))


def _exact_room(units: int, level: float) -> float:
    room: float = 1 - ((1 - level) / 2) ** (1 / units)
    return room


def _chunks(lines: int, width: int) -> Iterator[int]:
    size = max(1, _CHUNK // max(1, width))
    for start in range(0, lines, size):
        yield min(size, lines - start)
