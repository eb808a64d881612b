"""A learning curve: the main figure on the same held-out rows, after training on more and more rows.

For documents and cards: `draw` writes the picture, `table` the same as Markdown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.manifest import Evaluation
from training.evaluation.resampling import Interval

ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric by the number of training rows, and the systems that do not learn from them."""

    metric: str
    points: tuple[tuple[int, Interval], ...]
    flat: tuple[tuple[str, float], ...]


def sizes(most: int, *, points: int = 5) -> list[int]:
    """Return so many numbers of rows up to `most`, each half of the next.

    Raises:
        ValueError: there are not enough rows for that.
    """
    found = [most // 2**step for step in range(points)][::-1]
    if found[0] < 1 or len(set(found)) < points:
        raise ValueError(f"{most} rows are too few for {points} points that double")
    return found


def curve(judged: Sequence[tuple[int, Evaluation]], metric: str, *, beside: Sequence[str] = ()) -> Curve:
    """Return the adapter's figures by training rows; `beside` are systems of the last evaluation to compare.

    Raises:
        ValueError: an evaluation does not have the metric, or was on other rows than the rest.
    """
    if len({found.rows for _, found in judged}) != 1:
        raise ValueError("a curve needs evaluations on the same held-out rows")
    points = [
        (rows, _score(found, ADAPTER, metric)) for rows, found in sorted(judged, key=lambda pair: pair[0])
    ]
    last = max(judged, key=lambda pair: pair[0])[1]
    return Curve(metric, tuple(points), tuple((name, _score(last, name, metric).value) for name in beside))


def table(found: Curve) -> str:
    """Return a curve as a Markdown table."""
    lines = ["| training rows | " + found.metric + " |", "|---|---|"]
    lines += [
        f"| {rows} | {here.value:.3f} [{here.low:.3f}, {here.high:.3f}] |" for rows, here in found.points
    ]
    lines += [f"| {name} | {value:.3f} |" for name, value in found.flat]
    return "\n".join(lines)


def draw(found: Curve, path: Path) -> None:
    """Write a curve as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: it can't be written.
    """
    from training.evaluation import plots  # noqa: PLC0415 - only this needs them

    path.write_bytes(plots.curve(found.points, title=f"{found.metric} by training rows", flat=found.flat))


def _score(evaluation: Evaluation, system: str, metric: str) -> Interval:
    for score in evaluation.scores:
        if (score.system, score.metric) == (system, metric):
            return Interval(score.value, score.low, score.high)
    raise ValueError(f"the evaluation has no {metric} of {system}")
