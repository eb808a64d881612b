"""An outcome for people: a table, the verdict in words, and where the report lies."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from monitoring.check import Outcome
from monitoring.feedback import FeedbackVerdict, MetricFigures
from monitoring.rates import Estimate
from monitoring.verdict import Figures, WindowFigures

_FEEDBACK_WORDS = {
    FeedbackVerdict.WORSE: "worse",
    FeedbackVerdict.BETTER: "better",
    FeedbackVerdict.NO_CHANGE: "no change found",
    FeedbackVerdict.TOO_LITTLE_DATA: "too little data",
}


def show(console: Console, outcome: Outcome) -> None:
    """Print one outcome."""
    figures = outcome.figures
    if figures.features:
        console.print(_features(outcome.route, figures))
    if figures.feedback.metrics:
        console.print(_feedback(figures))
    for name, window in (("reference", figures.reference), ("current", figures.current)):
        console.print(f"{name}: {_window(window)}", highlight=False, markup=False)
    console.print(f"{figures.rule}.", style="dim", highlight=False, markup=False)
    for note in figures.notes:
        console.print(note, style="dim", highlight=False, markup=False)
    console.print(outcome.sentence, style="bold", highlight=False, markup=False)
    console.print(f"feedback: {_FEEDBACK_WORDS[figures.feedback.verdict]}", highlight=False)
    if outcome.report is not None:
        # One line whatever its length: a path that is broken over lines can't be copied.
        console.print(f"report: {outcome.report.html}", soft_wrap=True, highlight=False, markup=False)
    console.print()


def _features(route: str, figures: Figures) -> Table:
    table = Table(title=f"route {route}, alpha {figures.alpha:g}", title_justify="left")
    table.add_column("feature", no_wrap=True)
    for heading in ("reference", "current", "effect", "p", "adjusted p"):
        table.add_column(heading, justify="right")
    table.add_column("verdict", no_wrap=True)
    for name, tested in figures.features.items():
        table.add_row(
            name,
            _number(tested.reference),
            _number(tested.current),
            f"{tested.effect:.3f}",
            f"{tested.p_value:.4f}",
            f"{tested.adjusted_p:.4f}",
            "drift" if tested.drifted else "no drift found",
        )
    for name, described in figures.described.items():
        table.add_row(
            name,
            _number(described.reference),
            _number(described.current),
            f"{described.effect:.3f}",
            "",
            "",
            "not tested",
            style="dim",
        )
    return table


def _feedback(figures: Figures) -> Table:
    table = Table("feedback")
    for heading in ("reference", "current", "current - reference"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for name, metric in figures.feedback.metrics.items():
        table.add_row(
            f"{name} ({metric.kind}, {metric.better} is better)",
            _rated(metric.reference, metric.reference_n),
            _rated(metric.current, metric.current_n),
            _difference(metric),
            _FEEDBACK_WORDS[metric.verdict],
        )
    return table


def _rated(estimate: Estimate | None, n: int) -> str:
    return f"n={n}" if estimate is None else f"{estimate.value:.3g} (n={n})"


def _difference(metric: MetricFigures) -> str:
    if metric.difference is None:
        return ""
    low, high = metric.difference.low, metric.difference.high
    return f"{metric.difference.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _window(window: WindowFigures) -> str:
    if window.first_at is None or window.last_at is None:
        return "no rows"
    adapters = ", ".join(f"{adapter} {count}" for adapter, count in window.adapters.items())
    return f"{window.rows} rows, {_when(window.first_at)} to {_when(window.last_at)} ({adapters})"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
