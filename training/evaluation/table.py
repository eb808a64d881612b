"""An evaluation for the terminal: verdicts with intervals as bars, all figures, slices, and what to doubt."""

import sys
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.experiments.bars import bar
from training.evaluation.compare import Compared, Findings
from training.evaluation.figures import measure_of
from training.evaluation.parity import Parity
from training.evaluation.preference import Preferences
from training.evaluation.report import Report
from training.evaluation.resampling import Interval

WIDE = 200
"""The width where there is no terminal: nothing is cut in a pipe."""

_COLOURS = {"better": "green", "worse": "red", "equal": "cyan", "cannot tell": "yellow"}
_BARS = 25


def show(report: Report) -> None:
    """Print a report to standard output."""
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False, soft_wrap=False)
    for part in parts(report):
        console.print(part)


def parts(report: Report) -> Iterable[RenderableType]:
    """Yield what is printed, from the verdict to the notes."""
    found = report.findings
    units = "" if found.units == found.rows else f" in {found.units} groups"
    head = f"{report.candidate} on {found.rows} held-out rows{units} of {report.source}"
    yield _text(head, style="bold")
    yield _text(f"95 % intervals; differences are {report.candidate} minus the other, on the same rows.\n")
    yield _main(report)
    yield _text()
    yield _figures(found)
    if found.reliability:
        yield Group(_text(), *_calibration(found))
    if found.slices:
        yield Group(_text(), _slices(report), *_worst(report))
    if found.answers:
        changed = f"{found.now_right} answers are better now, {found.now_wrong} worse"
        yield _text(f"\nagainst {report.rival}: {changed}")
    for parity in report.parity:
        yield _parity(parity)
    if report.preferences:
        yield Group(_text(), *_preferences(report.preferences, report.candidate))
    for note in report.notes:
        yield _text(f"note: {note}", style="yellow")


def number(metric: str, value: float) -> str:
    """Return a figure as its unit is read."""
    unit = measure_of(metric).unit
    return f"{value:.0f}" if unit == "characters" else f"{value:.3f}"


def spread(metric: str, here: Interval) -> str:
    """Return a figure with its interval."""
    return f"{number(metric, here.value)} [{number(metric, here.low)}, {number(metric, here.high)}]"


def signed(metric: str, gap: Interval) -> str:
    """Return a difference with its interval."""
    if measure_of(metric).unit == "characters":
        return f"{gap.value:+.0f} [{gap.low:+.0f}, {gap.high:+.0f}]"
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def said(compared: Compared, margin: float) -> str:
    """Return a verdict in words, with how many rows would do where these did not."""
    points = f"{100 * margin:g} points"
    if compared.verdict == "equal":
        return f"equal within {points}"
    if compared.verdict == "cannot tell" and compared.rows_needed is not None:
        return f"too few rows: need {compared.rows_needed} for {points}"
    return compared.verdict


def _main(report: Report) -> Table:
    found = report.findings
    title = measure_of(found.primary).title
    table = _table("SYSTEM", title.upper(), "DIFFERENCE", "", "VERDICT")
    own = {each.system: each.here for each in found.scores if each.metric == found.primary}
    gaps = {each.against: each for each in report.main()}
    reach = max((max(abs(each.gap.low), abs(each.gap.high)) for each in gaps.values()), default=0.0) or 1.0
    production = {system.name for system in report.systems if system.in_production}
    for system in found.systems:
        gap = gaps.get(system)
        name = f"{system} (production)" if system in production else system
        table.add_row(
            _text(name),
            _text(spread(found.primary, own[system]) if system in own else "-"),
            _text(signed(found.primary, gap.gap) if gap else ""),
            _text(bar(gap.gap.low, gap.gap.high, gap.gap.value, span=reach, width=_BARS) if gap else ""),
            _text(said(gap, found.margin), style=_COLOURS[gap.verdict]) if gap else _text(""),
        )
    return table


def _figures(found: Findings) -> Table:
    table = _table("METRIC", *found.systems)
    values = {(each.system, each.metric): each.here.value for each in found.scores}
    for metric in found.metrics:
        cells = [
            number(metric, values[system, metric]) if (system, metric) in values else "-"
            for system in found.systems
        ]
        table.add_row(_text(measure_of(metric).title), *(_text(cell) for cell in cells))
    return table


def _calibration(found: Findings) -> Iterable[Text]:
    for each in found.reliability:
        high = each.calibrated.high
        true = each.error.value <= high
        yield _text(
            f"calibration of {each.system}: error {each.error.value:.3f} "
            f"[{each.error.low:.3f}, {each.error.high:.3f}]; a calibrated system would show "
            f"{each.calibrated.mean:.3f} here, up to {high:.3f}",
            style="" if true else "yellow",
        )


def _slices(report: Report) -> Table:
    found = report.findings
    table = _table(
        "SLICE", "ROWS", measure_of(found.primary).title.upper(), "FROM THE REST", f"MINUS {report.rival}"
    )
    gaps = {gap.name: gap for gap in found.slice_gaps}
    for each in found.slices:
        if each.metric != found.primary:
            continue
        gap = gaps.get(each.name)
        style = "" if each.judged else "dim"
        table.add_row(
            _text(each.name, style=style),
            _text(str(each.rows), style=style),
            _text(spread(each.metric, each.here), style=style),
            _text(signed(each.metric, each.from_rest) if each.from_rest else "too few to judge", style=style),
            _text(signed(gap.metric, gap.gap) if gap else "", style=style),
        )
    return table


def _worst(report: Report) -> Iterable[Text]:
    judged = len({each.name for each in report.findings.slices if each.judged})
    weak, harmed = report.weakest_slice(), report.most_harmed_slice()
    if weak is not None and weak.from_rest is not None:
        sure = "certainly" if weak.from_rest.excludes_zero() else "not certainly"
        yield _text(
            f"worst slice: {weak.name} ({signed(weak.metric, weak.from_rest)} from the rest, {sure}; "
            f"intervals at 1 - 0.05/{judged}, Bonferroni)"
        )
    if harmed is not None:
        yield _text(
            f"least gained against {report.rival}: {harmed.name} ({signed(harmed.metric, harmed.gap)}, "
            f"p {harmed.p_holm:.3f} by Holm over {judged} slices)"
        )


def _parity(parity: Parity) -> Text:
    where = f"\nparity of {parity.system} with {parity.url}: "
    if parity.failed is not None:
        return _text(f"{where}not compared: {parity.failed}", style="yellow")
    figures = (
        f"first tokens {parity.distance:.3f} nats apart (noise {parity.noise:.3f}"
        + ("" if parity.distance_to_base is None else f", base {parity.distance_to_base:.3f}")
        + f"), {parity.agreement.value if parity.agreement else 0:.0%} of {parity.rows} answers the same"
    )
    if parity.off is not None:
        return _text(f"{where}OFF: {parity.off}; {figures}", style="bold red")
    return _text(f"{where}holds; {figures}", style="green")


def _preferences(found: Preferences, candidate: str) -> Iterable[Text]:
    rate = found.win_rate
    yield _text(
        f"judge {found.judge}: {candidate} against {found.against}: {found.wins} won, {found.losses} lost, "
        f"{found.ties} ties ({found.same} the same, {found.orders_disagree} by order)"
        + (f"; win rate {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]" if rate else "")
    )
    if found.first_chosen is not None:
        first = found.first_chosen
        fair = first.low <= 0.5 <= first.high
        yield _text(
            f"  it chose what stood first {first.value:.0%} of the time [{first.low:.0%}, {first.high:.0%}]",
            style="" if fair else "yellow",
        )
    if found.malformed or found.failed:
        reason = f" ({found.note})" if found.note else ""
        yield _text(
            f"  {found.malformed} verdicts could not be read, {found.failed} rows were not judged{reason}",
            style="yellow",
        )


def _text(words: str = "", style: str = "") -> Text:
    """Return words as they are: neither markup nor a command to the terminal."""
    return Text("".join(each if each.isprintable() or each == "\n" else "�" for each in words), style=style)


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(_text(header), overflow="fold")
    return table
