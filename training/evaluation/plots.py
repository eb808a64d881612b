"""Plots of an evaluation as PNG bytes. No text in them is taken for markup."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

from training.evaluation.compare import Reliability
from training.evaluation.resampling import Interval

_INK, _ACCENT, _GREY = "#1f2933", "#2563a8", "#9aa5b1"
_COLOURS = {"better": "#2e7d4f", "worse": "#b23b3b", "equal": "#2563a8", "cannot tell": "#8a6d1a"}
_DPI = 150
_MAX_NAME = 48


def intervals(rows: Sequence[tuple[str, Interval, str]], *, title: str, zero: bool) -> bytes:
    """Return intervals one under the other: name, interval, and what it says (a verdict, or "")."""
    figure, axes = _axes(6.4, 0.8 + 0.34 * len(rows))
    for place, (_, here, word) in enumerate(rows):
        colour = _COLOURS.get(word, _ACCENT)
        axes.plot([here.low, here.high], [place, place], color=colour, linewidth=2)
        axes.plot([here.value], [place], "o", color=colour, markersize=5)
    if zero:
        axes.axvline(0, color=_GREY, linewidth=1)
    names = [_short(name) for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), labels=names, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(_short(title), fontsize=10, loc="left", parse_math=False)
    return _png(figure)


def reliability(found: Reliability) -> bytes:
    """Return how often a system is right by how sure it is; the area of a point is its share of the rows."""
    figure, axes = _axes(3.6, 3.6)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    total = sum(each.rows for each in found.bins) or 1
    axes.plot([each.confidence for each in found.bins], [each.accuracy for each in found.bins], color=_ACCENT)
    axes.scatter(
        [each.confidence for each in found.bins],
        [each.accuracy for each in found.bins],
        s=[12 + 260 * each.rows / total for each in found.bins],
        color=_ACCENT,
        alpha=0.7,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    axes.set_title(_short(found.system), fontsize=10, loc="left", parse_math=False)
    return _png(figure)


def curve(
    points: Sequence[tuple[int, Interval]],
    *,
    title: str,
    flat: Sequence[tuple[str, float]] = (),
    rivals: Sequence[tuple[str, Sequence[float]]] = (),
) -> bytes:
    """Return a figure against the number of training rows, beside rivals and what does not depend on it."""
    figure, axes = _axes(5.6, 3.6)
    rows = [count for count, _ in points]
    axes.fill_between(
        rows, [each.low for _, each in points], [each.high for _, each in points], color=_ACCENT, alpha=0.2
    )
    axes.plot(rows, [each.value for _, each in points], "o-", color=_ACCENT)
    for name, values in rivals:
        axes.plot(rows, values, "s:", color=_GREY, markersize=4)
        # Where the two are furthest apart there is room for a name.
        place = max(range(len(rows)), key=lambda place: abs(values[place] - points[place][1].value))
        axes.annotate(
            _short(name),
            (rows[place], values[place]),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
            color=_INK,
            parse_math=False,
            ha="center",
        )
    for name, value in flat:
        axes.axhline(value, color=_GREY, linewidth=1, linestyle="--")
        axes.annotate(_short(name), (rows[0], value), fontsize=8, color=_INK, parse_math=False, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, labels=[str(count) for count in rows])
    axes.set_xlabel("training rows")
    axes.set_title(_short(title), fontsize=10, loc="left", parse_math=False)
    return _png(figure)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    # Without pyplot: no window system, and nothing is kept between plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    written = io.BytesIO()
    with warnings.catch_warnings():
        # A name in letters that the font lacks is drawn as boxes; the table beside it has it whole.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(written, format="png", dpi=_DPI)
    return written.getvalue()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_NAME else line[: _MAX_NAME - 1] + "…"
