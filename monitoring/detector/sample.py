"""What the detector takes and what it says: rows, options, evidence. Values without behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Vectors = NDArray[np.float32] | NDArray[np.float64]

EMBEDDING = "embedding"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of one route, oldest first.

    `vectors` are unit vectors of shape (rows, dimensions), or of shape (rows, 0) where nothing is embedded.
    `numbers` are columns by name; NaN stands for a value that a row does not have. `at` are seconds since
    the epoch. `units` are the rows' subjects, None where one is unknown; the caller keeps at most one row a
    subject and day.

    Raises:
        ValueError: the columns have different lengths, the times fall, or a vector is not finite.
    """

    vectors: Vectors
    numbers: Mapping[str, FloatArray]
    at: FloatArray
    units: Sequence[str | None]

    def __post_init__(self) -> None:
        rows = len(self.at)
        lengths = {len(self.vectors), len(self.units), *(len(column) for column in self.numbers.values())}
        if lengths != {rows}:
            raise ValueError(f"the columns of a sample have {sorted(lengths | {rows})} rows")
        if rows and (np.diff(self.at) < 0).any():
            raise ValueError("the rows of a sample must be oldest first")
        if not np.isfinite(self.vectors).all():
            raise ValueError("a vector of a sample is not finite: leave out rows that were not embedded")

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a detector is calibrated.

    `run_length`: without drift the first alarm comes after so many rows or more on average. `risk` is the
    chance that the reference misleads by more than its bounds pay for; the threshold makes up for it.
    `day_tolerance`: how many standard deviations between days count as no drift, and `tolerance` the share
    of the traffic that does in any case. `refreshes` is how often the detector may learn a new direction
    from the traffic before the reference is spent.
    """

    run_length: float = 100_000.0
    risk: float = 0.05
    day_tolerance: float = 2.0
    tolerance: float = 0.005
    refreshes: int = 20_000
    min_rows: int = 2000
    min_days: float = 7.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.run_length > 1 and 0 < self.risk < 1 and self.day_tolerance >= 0):
            raise ValueError("run_length must be above 1, risk between 0 and 1, day_tolerance not negative")


@dataclass(frozen=True, slots=True)
class TooLittle:
    """The reference can't carry a decision yet: what it has and what it needs, and a sentence for people."""

    reason: str
    rows: int
    days: float
    need_rows: int
    need_days: float


@dataclass(frozen=True, slots=True)
class Effect:
    """How much changed, as a share of the traffic, with a 95 % interval; up to `tolerance` is no drift.

    A share that moved into a region of inputs is a lower bound of the total variation distance: at least
    so many requests are unlike the reference.
    """

    value: float
    low: float
    high: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class StreamEvidence:
    """One stream: its own log evidence, before it is averaged, and the effect where it saw the most."""

    log_evidence: float
    effect: Effect
    region: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a look found.

    `alarmed` is `log_evidence >= log_threshold` at any row since the detector was made or restarted.
    `rows` are all rows seen; `change_at` is when the change began by the leading stream, None while there
    is no sign of one. `exhausted`: the reference's bound is spent, nothing new is learned against it, and
    a new reference is needed.
    """

    log_evidence: float
    log_threshold: float
    alarmed: bool
    effect: Effect
    rows: int
    streams: Mapping[str, StreamEvidence] = field(default_factory=dict)
    change_at: float | None = None
    exhausted: bool = False


def one_a_day(sample: Sample) -> Sample:
    """Return the first row of each subject and day; rows without a subject all stay."""
    seen: set[tuple[str, int]] = set()
    kept = []
    for place, (unit, day) in enumerate(zip(sample.units, days_of(sample.at), strict=True)):
        if unit is None:
            kept.append(place)
        elif (unit, int(day)) not in seen:
            seen.add((unit, int(day)))
            kept.append(place)
    return take(sample, np.array(kept, dtype=np.int64))


def take(sample: Sample, places: NDArray[np.int64]) -> Sample:
    """Return the rows at these places, which must rise."""
    return Sample(
        vectors=sample.vectors[places],
        numbers={name: column[places] for name, column in sample.numbers.items()},
        at=sample.at[places],
        units=[sample.units[place] for place in places],
    )


def days_of(at: FloatArray) -> NDArray[np.int64]:
    """Return the day of each time, in UTC."""
    return np.floor(at / DAY_S).astype(np.int64)
