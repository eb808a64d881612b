"""The files of a report: one page for people and one document for programs, under the look's own name."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from monitoring.report import ReportPaths, plain, write
from monitoring.watch.plots import Drawn

_STYLE = (
    "font-family:Roboto,Arial,sans-serif;max-width:1180px;margin:24px auto;padding:0 24px;color:#222;"
    "background:#fff;line-height:1.45"
)


@dataclass(frozen=True, slots=True)
class Example:
    """A topic with the texts of its rows, as the store keeps them (redacted, cut)."""

    words: Sequence[str]
    share: float
    rows: Sequence[tuple[str, str]]
    """Requests' ids and texts."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a report says. `figures` are those of the look (`monitoring.watch.figures`)."""

    route: str
    at: float
    sentence: str
    figures: dict[str, Any]
    topics: Sequence[Example]
    coverage: dict[str, Any] | None


def write_pages(folder: Path, contents: Contents, drawn: Drawn | None, *, keep: int) -> ReportPaths:
    """Write `STAMP.html` and `.json` into `folder`, each whole or not at all; the newest `keep` pairs stay.

    Raises:
        OSError: the folder can't be written to.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = _stamp(contents.at)
    paths = ReportPaths(folder / f"{stamp}.html", folder / f"{stamp}.json")
    page = drawn.html if drawn is not None else "<!doctype html><html><body></body></html>"
    write(paths.html, page.replace("<body>", f"<body>{_head(contents)}", 1).encode())
    write(paths.json, orjson.dumps(plain(_document(contents, drawn)), option=orjson.OPT_INDENT_2))
    _prune(folder, keep)
    return paths


def _stamp(at: float) -> str:
    return "watch-" + datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S_%fZ")


def _prune(folder: Path, keep: int) -> None:
    stamps = sorted({path.stem for path in folder.glob("watch-*.*")}, reverse=True)
    for stamp in stamps[keep:]:
        for path in folder.glob(f"{stamp}.*"):
            path.unlink(missing_ok=True)


def _document(contents: Contents, drawn: Drawn | None) -> dict[str, Any]:
    return {
        "route": contents.route,
        "at": contents.at,
        "sentence": contents.sentence,
        "figures": contents.figures,
        "topics": [
            {
                "words": list(topic.words),
                "share": topic.share,
                "rows": [{"request_id": key, "prompt": text} for key, text in topic.rows],
            }
            for topic in contents.topics
        ],
        "coverage": contents.coverage,
        "evidently": drawn.document if drawn is not None else None,
    }


def _head(contents: Contents) -> str:
    """Return what a look says as HTML, to stand before the plots."""
    return (
        f'<section style="{_STYLE}"><h1>Drift watch: route {html.escape(contents.route)}</h1>'
        f"<p>{_when(contents.at)}</p><p><strong>{html.escape(contents.sentence)}</strong></p>"
        f"{_streams(contents.figures)}{_ratings(contents.figures)}{_topics(contents.topics)}"
        f"{_coverage(contents.coverage)}</section>"
    )


def _streams(figures: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{stream['evidence']:.2f}</td>"
        f"<td>{_effect(stream['effect'])}</td><td>{html.escape(stream['region'])}</td></tr>"
        for name, stream in sorted(
            figures.get("streams", {}).items(), key=lambda item: -float(item[1]["evidence"])
        )
    )
    return (
        '<h2>Streams</h2><table cellpadding="6" style="border-collapse:collapse;text-align:left"><tr>'
        "<th>stream</th><th>evidence of its own (log)</th><th>share that moved</th><th>where</th></tr>"
        f"{rows}</table>"
    )


def _ratings(figures: dict[str, Any]) -> str:
    rows = "".join(
        f"<li>{html.escape(name)}: {_effect(each['before'])} before, {_effect(each['after'])} since "
        f"({each['ratings']} ratings); difference since the change {_effect(each['difference'])}, "
        f"on the same inputs {_effect(each['same_inputs'])}</li>"
        for name, each in figures.get("ratings", {}).items()
    )
    return f"<h2>Ratings and signals</h2><ul>{rows}</ul>" if rows else ""


def _topics(topics: Sequence[Example]) -> str:
    if not topics:
        return ""
    parts = "".join(
        f"<h3>{html.escape(', '.join(topic.words) or 'no words')} ({topic.share:.1%} of the prompts)</h3><ul>"
        + "".join(
            f"<li><code>{html.escape(key)}</code>"
            f"<pre style='white-space:pre-wrap'>{html.escape(text)}</pre></li>"
            for key, text in topic.rows
        )
        + "</ul>"
        for topic in topics
    )
    return f"<h2>What is least like the reference</h2>{parts}"


def _coverage(coverage: dict[str, Any] | None) -> str:
    if coverage is None:
        return ""
    return (
        "<h2>Coverage by the training data</h2><p>A report that triggers nothing. "
        f"{coverage['far']:.1%} of the prompts lie further from a sample of {coverage['training_rows']} "
        "training prompts than 95 % of those lie from each other (5 % would, of prompts like them).</p>"
    )


def _effect(effect: dict[str, float] | None) -> str:
    return "-" if effect is None else f"{effect['value']:.3f} [{effect['low']:.3f}, {effect['high']:.3f}]"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
