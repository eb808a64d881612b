"""A check's report on the terminal.

Texts of rows are other people's: they are printed without markup and control characters.
"""

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text as Words

from training.data.findings import Action, CheckReport
from training.data.normalise import normalised

_COLOURS: Mapping[Action, str] = {"fatal": "bold red", "dropped": "yellow", "changed": "cyan", "noted": "dim"}
_SHOWN = 10


def show(report: CheckReport, console: Console) -> None:
    """Print the report as tables."""
    console.print(_rich(report))


def summary(report: CheckReport) -> str:
    """Return the report in a sentence."""
    state = "can't be trained on" if report.fatal else "can be trained on"
    return (
        f"{report.rows_read:,} {report.kind} read, {report.dropped:,} dropped, {report.rows_kept:,} kept: "
        f"{state}. Fingerprint {report.fingerprint[:19]}…"
    )


def beyond(report: CheckReport) -> str:
    """Return how many rows are longer than training takes, and what becomes of them; '' where none knows."""
    of = report.lengths
    if of is None or of.limit is None:
        return ""
    fate = "it cuts into pieces" if report.kind == "texts" else "it leaves out"
    rows = f"{of.over:,} row{'' if of.over == 1 else 's'}"
    return (
        f"Longer than the {of.limit:,} tokens that training takes, the chat template's own not counted: "
        f"{rows}{f', which {fate}' if of.over else ''}"
    )


def _rich(report: CheckReport) -> RenderableType:
    parts: list[RenderableType] = [Words(_plain(f"{report.source}: {summary(report)}"))]
    if report.findings:
        table = Table("finding", "action", "rows", "why, and some of them", pad_edge=False, expand=False)
        table.columns[2].justify = "right"
        for finding in report.findings:
            said = Words(_plain(finding.why))
            for sample in finding.samples:
                note = f" [{sample.note}]" if sample.note else ""
                said.append(_plain(f"\n  line {sample.line}{note}: {sample.text}"), style="dim")
            action = Words(finding.action, style=_COLOURS[finding.action])
            table.add_row(finding.name, action, f"{finding.rows:,}", said)
        parts.append(table)
    if report.lengths:
        of = report.lengths
        parts.append(Words(f"Lengths in {of.unit}: median {of.median:,.0f}, 95 % up to {of.p95:,.0f}, "
                           f"longest {of.longest:,}"))  # fmt: skip
        parts += [Words(long)] if (long := beyond(report)) else []
    for title, counts in (("Labels", report.labels), ("Languages", report.languages)):
        if counts:
            parts.append(Words(_plain(f"{title}: {_listed(counts)}")))
    if report.splits:
        parts.append(_splits_table(report))
    parts += [Words(_plain(f"Note: {note}"), style="dim") for note in report.notes]
    return Group(*parts)


def _splits_table(report: CheckReport) -> Table:
    table = Table("split", "rows", "median length", "labels", "largest gap", pad_edge=False)
    for part in report.splits:
        shares = ", ".join(f"{label:.24} {share:.0%}" for label, share in list(part.labels.items())[:4])
        gap = f"{part.gap:.1f} points (chance: {part.chance:.1f})" if part.labels else ""
        table.add_row(part.name, f"{part.rows:,}", f"{part.median_length:,.0f}", Words(_plain(shares)), gap)
    return table


def _listed(counts: Mapping[str, int]) -> str:
    whole = sum(counts.values())
    shown = [f"{name:.40} {count:,} ({count / whole:.0%})" for name, count in list(counts.items())[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _plain(text: str) -> str:
    """Return a text that can do nothing to a terminal."""
    return (
        normalised(text) if "\n" not in text else "\n".join(_plain(line) or "" for line in text.split("\n"))
    )
