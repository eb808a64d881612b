"""Progress of long work on a terminal: one line on stderr, drawn by Rich; nothing in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Heard = Callable[[dict[str, Any]], None]


@contextmanager
def following(what: str) -> Iterator[Heard]:
    """Yield what takes the gateway's lines of progress, `{"stage", "done_bytes", "total_bytes"}`."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - 70 ms that `--help` and `--json` need not pay
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def heard(line: dict[str, Any]) -> None:
            progress.update(
                task,
                description=f"{what}: {line['stage']}",
                completed=line["done_bytes"],
                total=line["total_bytes"],
            )

        yield heard
