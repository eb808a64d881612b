"""A gate's verdict for the terminal."""

import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.experiments.bars import bar
from training.gate.report import Report
from training.gate.tested import Tested
from training.gate.words import VERDICTS, answer, common_lines, phrase_line, points, question, share

WIDE = 200
_BARS = 25
_COLOURS = {"holds": "green", "fails": "red", "harmed": "red", "too few": "yellow"}
_OF_VERDICT = {
    "passed": "bold green",
    "failed": "bold red",
    "too_few_rows": "yellow",
    "needs_approval": "yellow",
}


def show(report: Report) -> None:
    """Print a report to standard output."""
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False, soft_wrap=False)
    for part in parts(report):
        console.print(part)


def parts(report: Report) -> Iterable[RenderableType]:
    """Yield what is printed, from the verdict to the notes."""
    decision = report.decision
    candidate, champion = report.systems["candidate"][0], report.systems["champion"][0]
    yield _text(f"{candidate} against {champion} on {report.route}", style="bold")
    yield _text(f"{VERDICTS[decision.verdict]}: {decision.reason}\n", style=_OF_VERDICT[decision.verdict])
    yield _questions([each for each in decision.tested if each.part is None])
    slices = [each for each in decision.tested if each.part is not None]
    if slices:
        yield _text()
        yield _questions(slices)
    yield _text()
    yield _scores(report)
    if decision.driver is not None:
        yield _text(f"\nwhat drove it: {decision.driver.name}")
        for line in common_lines(report.common):
            yield _text(f"  {line}")
    if report.phrases:
        yield _text("\nphrases that it was trained on, put into other rows:")
    for each in report.phrases:
        yield _text(f"  {phrase_line(each)}", style="yellow" if each.suspicious else "")
    for note in report.notes:
        yield _text(f"note: {note}", style="yellow")


def _questions(tested: list[Tested]) -> Table:
    table = _table("ROWS OF", "ROWS", "QUESTION", "POINTS", "", "ANSWER")
    reach = max(
        (max(abs(each.gap.interval.low), abs(each.gap.interval.high)) for each in tested), default=0.0
    )
    for each in tested:
        here = each.gap.interval
        shown = each.asks == "not harmed" and each.state == "holds"
        table.add_row(
            _text(each.name),
            _text(str(each.gap.rows)),
            _text(question(each)),
            _text(points(here)),
            _text(bar(here.low, here.high, here.value, span=reach or 1.0, width=_BARS)),
            _text(answer(each), style="dim" if shown else _COLOURS[each.state]),
        )
    return table


def _scores(report: Report) -> Table:
    table = _table("ROWS OF", "VERSION", "ROLE", "ROWS", report.metric.upper())
    for each in report.scores:
        version = report.systems[each.role][0]
        table.add_row(*map(_text, (each.set, version, each.role, str(each.rows), share(each.here))))
    return table


def _text(words: str = "", style: str = "") -> Text:
    """Return words as they are: neither markup nor a command to the terminal."""
    return Text("".join(each if each.isprintable() or each == "\n" else "�" for each in words), style=style)


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(_text(header), overflow="fold")
    return table
