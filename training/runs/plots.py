"""Pictures of a run, drawn with matplotlib without a display. Where it is not installed there are none."""

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MIN_POINTS = 2


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_losses(points: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw the losses of a run over its steps; return whether there was something to draw, and a library."""
    training = [(point["step"], point["loss"]) for point in points if "loss" in point]
    validation = [(point["step"], point["validation_loss"]) for point in points if "validation_loss" in point]
    if not can_draw() or max(len(training), len(validation)) < MIN_POINTS:
        return False
    figure, axes = _figure()
    if training:
        axes.plot(*zip(*training, strict=True), color="#9db4c0", linewidth=1.2, label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True), color="#c1440e", marker="o", markersize=4, label="validation"
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)
    return True


def draw_history(values: Sequence[tuple[int, float]], path: Path) -> bool:
    """Draw the validation loss of finished trials by number, with the best so far."""
    if not can_draw() or not values:
        return False
    best, lowest = [], float("inf")
    for _, value in values:
        lowest = min(lowest, value)
        best.append(lowest)
    figure, axes = _figure()
    numbers = [number for number, _ in values]
    axes.scatter(numbers, [value for _, value in values], color="#9db4c0", label="a trial")
    axes.step(numbers, best, where="post", color="#c1440e", label="the best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("validation loss")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)
    return True


def draw_importance(shares: Mapping[str, float], path: Path) -> bool:
    """Draw how much each setting decided, as shares of one."""
    if not can_draw() or not shares:
        return False
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    figure, axes = _figure()
    axes.barh([name for name, _ in ordered], [share for _, share in ordered], color="#9db4c0")
    axes.set_xlabel("importance")
    axes.set_xlim(0, 1)
    _save(figure, path)
    return True


def _figure() -> tuple[Any, Any]:
    # Not pyplot: it keeps figures in the process, and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - seconds, and only where something is drawn
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> None:
    """Write the picture in one step: who looks at it while it is drawn sees the one before."""
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}.png")
    try:
        figure.savefig(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
