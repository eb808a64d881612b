"""Progress for people: one line a stage, with a bar, figures and the time left, on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Stage:
    """One stage under way."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._said = 0

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        self._bars.advance(self._task, steps)

    def at(self, step: int, total: int, loss: float | None) -> None:
        """Set the step, the number of all steps and the latest loss."""
        figures = "" if loss is None else f"loss {loss:.3f}"
        self._bars.update(self._task, completed=step, total=total, figures=figures)
        tenth = 10 * step // total
        if not self._bars.console.is_terminal and tenth > self._said:
            self._said = tenth
            self._bars.console.print(f"    step {step} of {total}  {figures}", highlight=False)


class Progress:
    """Shows stages one after the other. Without a terminal each is one line when it is done."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)

    @contextmanager
    def stage(self, text: str, *, total: int | None = None) -> Iterator[Stage]:
        """Show a stage for the length of the block; its time stays in sight afterwards."""
        started = time.monotonic()
        bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with bars:
            yield Stage(bars, bars.add_task(text, total=total, figures=""))
        self._console.print(f"  {text}: {time.monotonic() - started:.1f} s", highlight=False)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a stage without figures, as `adapters.prepare_base` wants it."""
        with self.stage(text):
            yield
