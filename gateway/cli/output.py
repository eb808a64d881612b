"""What commands print: JSON for programs, aligned tables for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

WIDE = 100_000
"""The width where there is no terminal: nothing is folded or cut in a pipe."""


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
    """Print aligned columns. A cell too wide for the terminal goes on in the next line, uncut."""
    from rich.console import Console  # noqa: PLC0415 - 70 ms that `--help` and `--json` need not pay
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold" if terminal else "")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print one field a line, the values aligned."""
    every = list(fields)
    width = max(len(name) for name, _ in every)
    for name, value in every:
        typer.echo(f"{name:<{width}}  {_cell(value)}".rstrip())


def note(text: str) -> None:
    """Say something to the person, aside from the output."""
    typer.echo(text, err=True)


def when(at: float | None) -> str:
    """Return a time in UTC to the second."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def age(seconds: float | None) -> str:
    """Return a duration in its largest whole unit."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Return a number of bytes in a unit that people read."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def arms(many: Iterable[dict[str, Any]]) -> str:
    """Return arms as `support@3 0.9, support@4 0.1`."""
    return ", ".join(f"{arm['adapter']} {arm['share']:g}" for arm in many) or "-"


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)
