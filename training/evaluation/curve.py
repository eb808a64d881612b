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
    """A metric by the number of training rows, and the systems that do not learn from them.

    `rivals` learn from the same rows: each has a figure for every point.
    """

    metric: str
    points: tuple[tuple[int, Interval], ...]
    flat: tuple[tuple[str, float], ...]
    rivals: tuple[tuple[str, tuple[float, ...]], ...] = ()


def sizes(most: int, *, points: int = 5) -> list[int]:
    """Return so many numbers of rows up to `most`, each half of the next.

    Raises:
        ValueError: there are not enough rows for that.
    """
    found = [most // 2**step for step in range(points)][::-1]
    if found[0] < 1 or len(set(found)) < points:
        raise ValueError(f"{most} rows are too few for {points} points that double")
    return found


def curve(
    judged: Sequence[tuple[int, Evaluation]],
    metric: str,
    *,
    beside: Sequence[str] = (),
    rivals: Sequence[str] = (),
) -> Curve:
    """Return the adapter's figures by training rows.

    `beside` are systems of the last evaluation to compare with, `rivals` are in every one.

    Raises:
        ValueError: an evaluation does not have the metric, or was on other rows than the rest.
    """
    if len({found.rows for _, found in judged}) != 1:
        raise ValueError("a curve needs evaluations on the same held-out rows")
    ordered = sorted(judged, key=lambda pair: pair[0])
    last = ordered[-1][1]
    return Curve(
        metric,
        tuple((rows, _score(found, ADAPTER, metric)) for rows, found in ordered),
        tuple((name, _score(last, name, metric).value) for name in beside),
        tuple((name, tuple(_score(found, name, metric).value for _, found in ordered)) for name in rivals),
    )


def table(found: Curve) -> str:
    """Return a curve as a Markdown table."""
    names = [name for name, _ in found.rivals]
    lines = [
        f"| {' | '.join(('training rows', found.metric, *names))} |",
        "|---|---" + "|---" * len(names) + "|",
    ]
    for place, (rows, here) in enumerate(found.points):
        cells = [f"{here.value:.3f} [{here.low:.3f}, {here.high:.3f}]"]
        cells += [f"{values[place]:.3f}" for _, values in found.rivals]
        lines.append(f"| {rows} | {' | '.join(cells)} |")
    lines += [f"| {name} | {value:.3f} |{' |' * len(names)}" for name, value in found.flat]
    return "\n".join(lines)


def draw(found: Curve, path: Path) -> None:
    """Write a curve as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: it can't be written.
    """
    from training.evaluation import plots  # noqa: PLC0415 - only this needs them

    path.write_bytes(
        plots.curve(
            found.points,
            title=f"{found.metric} by training rows",
            flat=found.flat,
            rivals=found.rivals,
        )
    )


def _score(evaluation: Evaluation, system: str, metric: str) -> Interval:
    for score in evaluation.scores:
        if (score.system, score.metric) == (system, metric):
            return Interval(score.value, score.low, score.high)
    raise ValueError(f"the evaluation has no {metric} of {system}")
