"""How long rows are: in tokens where they can be counted, in characters otherwise. Pure."""

from collections.abc import Callable, Sequence
from typing import Literal

from training.data.findings import Lengths
from training.data.rows import Row
from training.data.texts import answers, prompt_texts

BARS = 24


def row_length(row: Row, measure: Callable[[str], int]) -> int:
    """Return the length of what the model reads of a row: the prompt, and of two answers the longer one."""
    return sum(map(measure, prompt_texts(row))) + max(map(measure, answers(row)), default=0)


def lengths_of(
    measured: Sequence[int], unit: Literal["tokens", "characters"], *, limit: int | None = None
) -> Lengths | None:
    """Return the figures of lengths, with a histogram up to the longest; None of none."""
    if not measured:
        return None
    ordered = sorted(measured)
    low, high = ordered[0], ordered[-1]
    width = max(1.0, (high - low) / BARS)
    counts = [0] * min(BARS, int((high - low) / width) + 1)
    for length in measured:
        counts[min(len(counts) - 1, int((length - low) / width))] += 1
    return Lengths(
        unit=unit,
        median=quantile(ordered, 0.5),
        p95=quantile(ordered, 0.95),
        longest=high,
        edges=tuple(round(low + number * width, 1) for number in range(len(counts) + 1)),
        counts=tuple(counts),
        limit=limit,
        over=0 if limit is None else sum(length > limit for length in measured),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which so large a share of sorted values lies (nearest rank); 0 of none."""
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0.0
