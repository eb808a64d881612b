"""A check's report as one HTML page that needs nothing else: it loads nothing and runs no script.

Texts of rows are other people's, and all of them are escaped.
"""

import html
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from training.data.findings import CheckReport, Finding, Lengths
from training.data.report import beyond, summary

_SHOWN = 10
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --bar: #3767c8;
  --back: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #333c4d;
  --bar: #7da2f0; --back: #12161e } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0;
  border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.soft { color: var(--soft) } .fatal { color: #d92d20; font-weight: 600 } .dropped { color: #b54708 }
blockquote { margin: .25rem 0; padding-left: .7rem; border-left: 2px solid var(--line);
  overflow-wrap: anywhere }
svg { display: block; max-width: 100% } svg text { fill: var(--soft); font-size: 11px }
svg rect { fill: var(--bar) }
"""


def write_html(report: CheckReport, path: Path) -> None:
    """Write the report as one page; it appears whole or not at all.

    Raises:
        OSError: it can't be written.
    """
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        scratch.write_text(page(report), encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def page(report: CheckReport) -> str:
    """Return the HTML page."""
    parts = [
        f"<h1>{_e(report.source)}</h1>",
        f"<p>{_e(summary(report))}</p>",
        _findings(report.findings),
        _lengths(report.lengths, beyond(report)),
        _bars("Labels", report.labels),
        _bars("Languages", report.languages),
        _bars("Personal data, by kind", report.personal),
        _splits(report),
        _notes(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_e(_POLICY)}">'
        f"<title>Data check: {_e(report.source)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}</body></html>\n"
    )


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing was found.</p>"
    rows = []
    for one in findings:
        samples = "".join(
            f"<blockquote>line {sample.line} <span class=soft>{_e(sample.note)}</span> {_e(sample.text)}"
            "</blockquote>"
            for sample in one.samples
        )
        action = f'<span class="{one.action}">{one.action}</span>'
        rows.append((_e(one.name), action, f"{one.rows:,}", f"{_e(one.why)}{samples}"))
    return f"<h2>Findings</h2>{_table(('finding', 'action', 'rows', 'why, and some of them'), rows, (2,))}"


def _lengths(lengths: Lengths | None, over: str) -> str:
    if lengths is None or not lengths.counts:
        return ""
    width, height = 720, 150
    top, step = max(lengths.counts), width / len(lengths.counts)
    bars = []
    for number, count in enumerate(lengths.counts):
        tall = height * count / top
        title = f"{lengths.edges[number]:,.0f} to {lengths.edges[number + 1]:,.0f}: {count:,}"
        bars.append(
            f'<rect x="{number * step + 1:.1f}" y="{height - tall:.1f}" width="{max(1.0, step - 2):.1f}" '
            f'height="{tall:.1f}"><title>{title}</title></rect>'
        )
    ends = (
        f'<text x="0" y="{height + 16}">{lengths.edges[0]:,.0f}</text>'
        f'<text x="{width}" y="{height + 16}" text-anchor="end">{lengths.edges[-1]:,.0f}</text>'
    )
    said = f"median {lengths.median:,.0f}, 95 % up to {lengths.p95:,.0f}, longest {lengths.longest:,}"
    return (
        f"<h2>Lengths</h2><p>In {lengths.unit}: {said}.{f' {_e(over)}.' if over else ''}</p>"
        f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="Histogram of lengths">'
        f"{''.join(bars)}{ends}</svg>"
    )


def _bars(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    shown = list(counts.items())[:_SHOWN]
    top, whole = max(counts.values()), sum(counts.values())
    lines = []
    for number, (name, count) in enumerate(shown):
        below, wide = 22 * number, max(1.0, 400 * count / top)
        lines.append(
            f'<text x="0" y="{below + 15}">{_e(f"{name:.28}")}</text>'
            f'<rect x="200" y="{below + 3}" width="{wide:.1f}" height="15"></rect>'
            f'<text x="{206 + wide:.1f}" y="{below + 15}">{count:,} ({count / whole:.0%})</text>'
        )
    more = f"<p class=soft>and {len(counts) - _SHOWN} more</p>" if len(counts) > _SHOWN else ""
    box = f'viewBox="0 0 720 {22 * len(shown) + 4}" role="img" aria-label="{_e(title)}"'
    return f"<h2>{_e(title)}</h2><svg {box}>{''.join(lines)}</svg>{more}"


def _splits(report: CheckReport) -> str:
    if not report.splits:
        return ""
    rows = []
    for part in report.splits:
        shares = ", ".join(f"{label:.24} {share:.1%}" for label, share in list(part.labels.items())[:_SHOWN])
        gap = f"{part.gap:.1f} (chance: {part.chance:.1f})" if part.labels else ""
        rows.append((part.name, f"{part.rows:,}", f"{part.median_length:,.0f}", _e(shares), gap))
    heads = ("split", "rows", "median length", "labels", "largest gap, points")
    return (
        f"<h2>Splits</h2>{_table(heads, rows, (1, 2, 4))}<p class=soft>The gap is between a label's share "
        "here and in all rows; chance is what rows drawn at random stay within 95 times of 100.</p>"
    )


def _notes(report: CheckReport) -> str:
    items = [*report.notes, *(f"{name}: {value}" for name, value in report.settings.items())]
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    listed = "".join(f"<li>{_e(str(item))}</li>" for item in items)
    return f"<h2>How it was looked at</h2><ul>{listed}</ul><p class=soft>Took: {_e(took)}</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int]) -> str:
    """Return a table; the cells are HTML already."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place in numeric else ''}>{cell}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _e(text: str) -> str:
    return html.escape(text, quote=True)
