"""What a benchmark leaves behind: a table, one line of JSON, a file, and an entry in RESULTS.md."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.common.machine import ROOT, commit, describe

RESULTS = ROOT / "loadtests" / "results"
HISTORY = ROOT / "loadtests" / "RESULTS.md"


@dataclass(frozen=True)
class Sheet:
    """A table: one row a system or figure. `notes` stand below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def console_for_people() -> Console:
    """Return a console that is wide enough for the tables, also where there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def publish(
    bench: str, figures: dict[str, Any], sheet: Sheet, *, console: Console, history: bool, partial: bool
) -> None:
    """Print the table, store the result, and print it as the last line.

    `partial` runs (shorter, or with fewer systems) are stored beside the full one and stay out of the
    history, whatever `history` says.
    """
    result = {"bench": bench, "commit": commit(), "machine": describe(), "figures": figures}
    console.print(_table(sheet))
    for note in sheet.notes:
        console.print(f"  {note}", highlight=False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"{bench}.partial.json" if partial else f"{bench}.json"
    line = json.dumps(result)
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if history and not partial:
        remember(HISTORY, result, sheet)
    print(line, flush=True)


def keep_piece(bench: str, piece: str, figures: dict[str, Any]) -> None:
    """Keep the figures of one part of a benchmark, so that a run of another part can be put beside it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    _piece(bench, piece).write_text(json.dumps(figures) + "\n", encoding="utf-8")


def kept_piece(bench: str, piece: str) -> dict[str, Any] | None:
    """Return what was kept of a part, or None."""
    place = _piece(bench, piece)
    return dict(json.loads(place.read_text(encoding="utf-8"))) if place.exists() else None


def _piece(bench: str, piece: str) -> Path:
    return RESULTS / f"{bench}.{piece}.partial.json"


def remember(history: Path, result: dict[str, Any], sheet: Sheet) -> None:
    """Append a run to the history."""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["machine"].items())
    head = f"\n### {result['bench']}, {day}, commit {result['commit']}\n\n{machine}\n\n"
    before = history.read_text(encoding="utf-8") if history.exists() else "# Benchmark results\n\n## Runs\n"
    history.write_text(before + head + markdown(sheet), encoding="utf-8")


def markdown(sheet: Sheet) -> str:
    """Return a table in Markdown, with its notes."""
    lines = [f"| {' | '.join(sheet.columns)} |", f"|{'---|' * len(sheet.columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in sheet.rows]
    notes = [f"\n{note}" for note in sheet.notes]
    return "\n".join([*lines, *notes]) + "\n"


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure for a table; a dash when there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def _table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left")
    for index, column in enumerate(sheet.columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=not index)
    for row in sheet.rows:
        table.add_row(*row)
    return table
