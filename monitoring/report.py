"""The report of one check: Evidently's plots under our verdict, as one HTML page, and all of it as JSON.

Evidently draws; it does not judge. Its own thresholds mark drift by other rules than ours (see
docs/decisions/0003-drift-verdict.md), so the words "drift detected" of its widgets are replaced by our
figures, and its tests stay off. Neither file holds the text of a prompt or an answer.
"""

import html
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from monitoring.feedback import FeedbackVerdict
from monitoring.permutation import FloatArray
from monitoring.rates import Estimate
from monitoring.verdict import EMBEDDING, Figures

WITNESS = "embedding_witness"
_WITNESS_NOTE = (
    f"{WITNESS}: how much more a prompt resembles the reference than the current prompts. "
    "The distance of its two means is the MMD squared."
)
_STYLE = (
    "font-family:Roboto,Arial,sans-serif;max-width:1180px;margin:24px auto;padding:0 24px;color:#222;"
    "background:#fff;line-height:1.45"
)


class ReportUnavailable(Exception):
    """Evidently is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ReportColumns:
    """What is drawn of one window: numeric columns (NaN for gaps) and categorical ones."""

    numbers: Mapping[str, FloatArray]
    categories: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where the two files lie."""

    html: Path
    json: Path


def write_report(
    folder: Path,
    *,
    route: str,
    at: float,
    sentence: str,
    figures: Figures,
    reference: ReportColumns,
    current: ReportColumns,
) -> ReportPaths:
    """Write `TIMESTAMP.html` and `.json` into `folder`; each appears whole or not at all.

    Raises:
        ReportUnavailable: Evidently is missing.
        OSError: the folder can't be written to.
    """
    page, evidently = _draw(f"Route {route}", figures, reference, current)
    document = {
        "route": route,
        "at": at,
        "verdict": str(figures.verdict),
        "sentence": sentence,
        "figures": figures.document(),
        "evidently": evidently,
    }
    head = _head(route, at, sentence, figures)
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S_%fZ")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths = ReportPaths(folder / f"{stamp}.html", folder / f"{stamp}.json")
    write(paths.html, page.replace("<body>", f"<body>{head}", 1).encode())
    write(paths.json, orjson.dumps(plain(document), option=orjson.OPT_INDENT_2))
    return paths


def _draw(
    name: str, figures: Figures, reference: ReportColumns, current: ReportColumns
) -> tuple[str, dict[str, Any]]:
    """Return Evidently's page and its figures."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # read by Evidently at its import: no telemetry
    with warnings.catch_warnings():
        # Evidently 0.7.23 and what it imports use names that NumPy and Litestar have deprecated; nothing
        # that a reader of a report could act on.
        warnings.simplefilter("ignore")
        try:
            import pandas as pd  # noqa: PLC0415 - seconds to import, and only a report needs it
            from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415 - same
            from evidently.metrics import ValueDrift  # noqa: PLC0415 - same
        except ImportError as error:
            raise ReportUnavailable("Evidently is not installed: install turnout[monitoring]") from error
        numbers = [
            key for key in reference.numbers if _drawable(reference.numbers[key], current.numbers[key])
        ]
        categories = list(reference.categories)
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        before, after = (
            Dataset.from_pandas(
                pd.DataFrame({**{key: part.numbers[key] for key in numbers}, **part.categories}),
                data_definition=definition,
            )
            for part in (reference, current)
        )
        metrics = [ValueDrift(column=key, method="wasserstein") for key in numbers]
        metrics += [ValueDrift(column=key, method="jensenshannon") for key in categories]
        snapshot = Report(metrics, include_tests=False).run(after, before, name=name)
        for result, column in zip(snapshot.metric_results.values(), [*numbers, *categories], strict=True):
            _relabel(result.widget, column, figures)
        return snapshot.get_html_str(as_iframe=False), snapshot.dict()


def _drawable(reference: FloatArray, current: FloatArray) -> bool:
    return all(np.isfinite(values).sum() >= 2 for values in (reference, current))


def _relabel(widgets: list[Any], column: str, figures: Figures) -> None:
    """Put our figures where Evidently's widget says whether it detected drift."""
    tested = figures.features.get(EMBEDDING if column == WITNESS else column)
    described = figures.described.get(column)
    if tested is not None:
        word = "Drift" if tested.drifted else "No drift found"
        effect = f"{'MMD' if column == WITNESS else 'D'} {tested.effect:.2f}"
        text = f"{word}: {effect}, adjusted p {tested.adjusted_p:.2g}, alpha {figures.alpha:g}"
    elif described is not None:
        text = f"Not tested: D {described.effect:.2f}, median {described.reference:g} → {described.current:g}"
    else:
        text = "Not tested"
    for widget in widgets:
        for counter in widget.params.get("counters", []) if isinstance(widget.params, dict) else []:
            counter["value"], counter["label"] = column, text


def _head(route: str, at: float, sentence: str, figures: Figures) -> str:
    """Return the verdict as HTML, to stand before the plots."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_number(item.reference)}</td><td>{_number(item.current)}</td>"
        f"<td>{item.effect:.3f}</td><td>{item.p_value:.4f}</td><td>{item.adjusted_p:.4f}</td>"
        f"<td>{'drift' if item.drifted else 'no drift found'}</td></tr>"
        for name, item in figures.features.items()
    )
    notes = (*figures.notes, _WITNESS_NOTE) if EMBEDDING in figures.features else figures.notes
    remarks = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    windows = "".join(
        f"<li>{name}: {part.rows} rows, {_when(part.first_at)} to {_when(part.last_at)}</li>"
        for name, part in (("reference", figures.reference), ("current", figures.current))
    )
    return (
        f'<section style="{_STYLE}"><h1>Drift report: route {html.escape(route)}</h1>'
        f"<p>{_when(at)}</p><p><strong>{html.escape(sentence)}</strong></p>"
        f"<ul>{windows}</ul><p>{html.escape(figures.rule)}.</p>"
        '<table cellpadding="6" style="border-collapse:collapse;text-align:left"><tr><th>feature</th>'
        "<th>reference (median)</th><th>current (median)</th><th>effect</th><th>p</th><th>adjusted p</th>"
        f"<th>verdict at alpha {figures.alpha:g}</th></tr>{rows}</table>"
        f"{_feedback(figures)}<ul>{remarks}</ul></section>"
    )


def _feedback(figures: Figures) -> str:
    metrics = "".join(
        f"<li>{html.escape(name)}: {_rated(metric.reference, metric.reference_n)} in the reference, "
        f"{_rated(metric.current, metric.current_n)} now: {_words(metric.verdict)}</li>"
        for name, metric in figures.feedback.metrics.items()
    )
    return f"<p>Feedback: {_words(figures.feedback.verdict)}.</p><ul>{metrics}</ul>"


def _words(verdict: FeedbackVerdict) -> str:
    return verdict.replace("_", " ")


def _rated(estimate: Estimate | None, n: int) -> str:
    if estimate is None:
        return f"{n} ratings"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}] (n={n})"


def _when(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's, and what JSON can't write into null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
