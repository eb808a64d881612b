"""Progress for people: one line a stage, with a bar, figures and the time left, on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Stage:
    """One stage under way."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._said = 0
        self._began: tuple[int, float] | None = None

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        self._bars.advance(self._task, steps)

    def at(
        self,
        step: int,
        total: int,
        loss: float | None,
        *,
        validation: float | None = None,
        tokens_per_s: float | None = None,
    ) -> None:
        """Set the step, the number of all steps, the latest losses and the speed."""
        figures = figures_of(loss, validation=validation, tokens_per_s=tokens_per_s)
        self._bars.update(self._task, completed=step, total=total, figures=figures)
        now = time.monotonic()
        self._began = self._began or (step, now)
        tenth = 10 * step // total
        if not self._bars.console.is_terminal and tenth > self._said:
            self._said = tenth
            left = time_left(step, total, self._began, now)
            self._bars.console.print(f"    step {step} of {total}  {figures}{left}", highlight=False)


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
            yield Stage(bars, bars.add_task(escape(text), total=total, figures=""))
        self.say(f"{text}: {time.monotonic() - started:.1f} s")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a stage without figures, as `adapters.prepare_base` wants it."""
        with self.stage(text):
            yield

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


def figures_of(
    loss: float | None, *, validation: float | None = None, tokens_per_s: float | None = None
) -> str:
    """Return the figures of a step as text; what is not known is left out."""
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    if validation is not None:
        parts.append(f"validation {validation:.3f}")
    if tokens_per_s is not None:
        parts.append(f"{tokens_per_s:,.0f} tokens/s")
    return "  ".join(parts)


def time_left(step: int, total: int, began: tuple[int, float], now: float) -> str:
    """Return the time left at the pace since `began` (a step and its time in seconds), or nothing."""
    first, moment = began
    if step <= first:
        return ""
    return f"  {duration((now - moment) / (step - first) * (total - step))} left"


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * 60:
        return f"{whole / 60:.0f} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
