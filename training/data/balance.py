"""How alike the splits came out, and classes resampled to be balanced. Pure; stable when rows are added."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from training.data.findings import SplitBalance
from training.data.labels import counted
from training.data.lengths import quantile, row_length
from training.data.rows import Row
from training.data.splits import RowT, Splits
from training.data.texts import label

_Z = 1.96


@dataclass(frozen=True, slots=True)
class Resampling:
    """`down`: no class keeps more training rows than `cap` (default: the smallest class has).

    `up`: rows of smaller classes are repeated until they are `cap` (default: as many as the largest has).
    """

    way: Literal["up", "down"]
    cap: int | None = None
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse a cap that leaves nothing."""
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"--resample-cap is {self.cap}, and must be at least 1")


def balance(splits: Splits[RowT], measure: Callable[[str], int]) -> tuple[SplitBalance, ...]:
    """Return for each split its rows, median length and labels beside those of all rows."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    everything: list[Row] = [row for rows in parts.values() for row in rows]
    whole = _shares(everything) if counted(everything) else {}
    found = []
    for name, rows in parts.items():
        own = _shares(rows) if whole else {}
        gaps = [abs(own.get(each, 0.0) - share) for each, share in whole.items()] if rows else []
        chance = max((_chance(share, len(rows), len(whole)) for share in whole.values()), default=0.0)
        found.append(
            SplitBalance(
                name=name,
                rows=len(rows),
                median_length=quantile(sorted(row_length(row, measure) for row in rows), 0.5),
                labels={each: round(share, 4) for each, share in own.items()},
                gap=round(100 * max(gaps, default=0.0), 2),
                chance=round(100 * chance, 2) if rows else 0.0,
            )
        )
    return tuple(found)


def resampled(rows: Sequence[RowT], how: Resampling) -> tuple[RowT, ...]:
    """Return training rows with their classes resampled, in their order; repeated rows come at the end.

    Which rows stay or come twice follows from a hash of seed and prompt, so that it changes little when rows
    are added. Rows whose answers are no labels are returned as they are.
    """
    counts = counted(rows)
    if len(counts) < 2:
        return tuple(rows)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(label(row) or "", []).append(place)
    if how.way == "down":
        target = how.cap or min(counts.values())
        kept = {place for found in places.values() for place in _drawn(rows, found, how.seed)[:target]}
        return tuple(row for place, row in enumerate(rows) if place in kept)
    target = how.cap or max(counts.values())
    more: list[RowT] = []
    for found in places.values():
        missing = target - len(found)
        drawn = _drawn(rows, found, how.seed)
        more += [rows[drawn[number % len(drawn)]] for number in range(max(0, missing))]
    return (*rows, *more)


def _drawn(rows: Sequence[Row], places: Sequence[int], seed: int) -> list[int]:
    def order(place: int) -> bytes:
        return hashlib.sha256(f"{seed}\0{rows[place].key}".encode()).digest()

    return sorted(places, key=order)


def _shares(rows: Sequence[Row]) -> dict[str, float]:
    counts = Counter(said for row in rows if (said := label(row)) is not None)
    return {each: count / len(rows) for each, count in counts.most_common()}


def _chance(share: float, rows: int, labels: int) -> float:
    """Return the half-width that a share's deviation stays within 95 times of 100, for all labels at once."""
    # Bonferroni over the labels; the normal quantile of 0.975 grows about so with their number.
    z = _Z if labels <= 2 else math.sqrt(_Z**2 + 2 * math.log(labels))
    return z * math.sqrt(share * (1 - share) / rows) if rows else 0.0
