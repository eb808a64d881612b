"""An evaluation as one HTML file: no script, nothing from elsewhere, every text of the data escaped."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from training.evaluation.compare import Changed
from training.evaluation.figures import measure_of
from training.evaluation.html import cut, paragraph, picture, table, whole
from training.evaluation.report import Report
from training.evaluation.resampling import Interval
from training.evaluation.table import number, said, signed, spread


def page(report: Report) -> str:
    """Return the report as a whole HTML document. Without matplotlib it has no plots, and says so."""
    body = "\n".join(part for part in _sections(report) if part)
    return whole(f"{report.candidate}: evaluation", body)


def _sections(report: Report) -> Iterable[str]:
    found = report.findings
    at = datetime.fromtimestamp(report.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    groups = "" if found.units == found.rows else f" in {found.units} groups"
    yield f"<h1>{escape(report.candidate)}</h1>"
    yield paragraph(
        f"{found.rows} held-out rows{groups} of {report.source}, {at}. Brackets are 95 % intervals; "
        f"differences are {report.candidate} minus the other system, paired on the same rows."
    )
    yield "".join(f"<p class=cannot>Note: {escape(note)}</p>" for note in report.notes)
    yield _verdicts(report)
    yield _plot_of_differences(report)
    yield _all_figures(report)
    yield _calibration(report)
    yield _slices(report)
    yield _parity(report)
    yield _preferences(report)
    yield _changed(report)
    yield "<h2>How it was made</h2>" + table(
        ["setting", "value"], [[name, str(value)] for name, value in report.settings.items()]
    )
    yield paragraph(report.code_version) + f"<pre>{escape(report.command)}</pre>"


def _verdicts(report: Report) -> str:
    found = report.findings
    own = {each.system: each.here for each in found.scores if each.metric == found.primary}
    rows = [[found.systems[0], spread(found.primary, own[found.systems[0]]), "", "", ""]]
    classes = [""]
    for each in report.main():
        rows.append(
            [
                each.against,
                spread(found.primary, own[each.against]),
                signed(found.primary, each.gap),
                f"{each.p_value:.4f}",
                said(each, found.margin),
            ]
        )
        classes.append(each.verdict.split()[0])
    title = measure_of(found.primary).title
    return f"<h2>{escape(title)}</h2>" + table(
        ["system", title, "difference", "p", "verdict"], rows, classes=classes
    )


def _plot_of_differences(report: Report) -> str:
    rows = [(each.against, each.gap, each.verdict) for each in report.main()]
    title = f"{report.candidate} minus the other: {measure_of(report.findings.primary).title}"
    return _intervals(rows, title=title, zero=True)


def _all_figures(report: Report) -> str:
    found = report.findings
    here = {(each.system, each.metric): each.here for each in found.scores}
    rows = [
        [
            measure_of(metric).title,
            *(
                spread(metric, here[system, metric]) if (system, metric) in here else "–"  # noqa: RUF001 - a dash
                for system in found.systems
            ),
        ]
        for metric in found.metrics
    ]
    gaps = [
        [
            each.against,
            measure_of(each.metric).title,
            signed(each.metric, each.gap),
            f"{each.p_value:.4f}",
            said(each, found.margin),
        ]
        for each in found.differences
    ]
    return (
        "<h2>All figures</h2>"
        + table(["metric", *found.systems], rows)
        + "<details><summary>All differences</summary>"
        + table(["against", "metric", "difference", "p", "verdict"], gaps)
        + "</details>"
    )


def _calibration(report: Report) -> str:
    found = report.findings.reliability
    if not found:
        return ""
    rows = [
        [
            each.system,
            spread("ece", each.error),
            f"{each.calibrated.mean:.3f}, up to {each.calibrated.high:.3f}",
        ]
        for each in found
    ]
    pictures = "".join(picture("reliability", each, alt=f"reliability of {each.system}") for each in found)
    explained = (
        "Probabilities are the labels' log-likelihoods, normalised over the labels and not divided by their "
        "length. On so few rows a perfectly calibrated system shows an error too: the last column."
    )
    return (
        "<h2>Calibration</h2>"
        + paragraph(explained)
        + table(["system", "calibration error", "if it were calibrated"], rows)
        + pictures
    )


def _slices(report: Report) -> str:
    found = report.findings
    if not found.slices:
        return ""
    gaps = {gap.name: gap for gap in found.slice_gaps}
    main = [each for each in found.slices if each.metric == found.primary]
    rows = [
        [
            each.name,
            str(each.rows),
            spread(each.metric, each.here),
            signed(each.metric, each.from_rest) if each.from_rest else "too few to judge",
            signed(gaps[each.name].metric, gaps[each.name].gap) if each.name in gaps else "",
        ]
        for each in main
    ]
    classes = ["" if each.judged else "few" for each in main]
    heads = ["slice", "rows", measure_of(found.primary).title, "from the rest", f"minus {report.rival}"]
    every = [
        [each.name, str(each.rows), measure_of(each.metric).title, spread(each.metric, each.here)]
        for each in found.slices
    ]
    judged = sum(each.judged for each in main)
    return (
        "<h2>Slices</h2>"
        + paragraph(_worst(report, judged))
        + table(heads, rows, classes=classes)
        + _intervals([(each.name, each.here, "") for each in main], title="by slice", zero=False)
        + "<details><summary>Every metric by slice</summary>"
        + table(["slice", "rows", "metric", "value"], every)
        + "</details>"
    )


def _worst(report: Report, judged: int) -> str:
    weak, harmed = report.weakest_slice(), report.most_harmed_slice()
    words = [f"Differences of slices are at 1 - 0.05/{max(1, judged)} (Bonferroni over {judged} slices)."]
    if weak is not None and weak.from_rest is not None:
        sure = "certainly" if weak.from_rest.excludes_zero() else "not certainly"
        words.append(f"Worst slice: {weak.name}, {sure} below the rest.")
    if harmed is not None and harmed.p_holm is not None:
        words.append(f"Least gained against {report.rival}: {harmed.name} (p {harmed.p_holm:.3f}, Holm).")
    return " ".join(words)


def _parity(report: Report) -> str:
    if not report.parity:
        return ""
    rows, classes = [], []
    for each in report.parity:
        agreement = f"{each.agreement.value:.0%} of {each.rows}" if each.agreement else ""
        rows.append(
            [
                each.system,
                each.url,
                _nats(each.distance),
                _nats(each.noise),
                _nats(each.distance_to_base),
                agreement,
                f"OFF: {each.off}"
                if each.off
                else f"not compared: {each.failed}"
                if each.failed
                else "holds",
            ]
        )
        classes.append("off" if each.off else "cannot" if each.failed else "better")
    heads = ["system", "engine", "nats apart", "noise", "base apart", "answers the same", "parity"]
    return "<h2>Parity with the serving engine</h2>" + table(heads, rows, classes=classes)


def _preferences(report: Report) -> str:
    found = report.preferences
    if found is None:
        return ""
    rate, first = found.win_rate, found.first_chosen
    rows = [
        ["won, lost, ties", f"{found.wins}, {found.losses}, {found.ties}"],
        ["win rate (a tie is half)", _share(rate)],
        ["ties because the orders disagree", str(found.orders_disagree)],
        ["chose what stood first", _share(first)],
        ["verdicts that could not be read", str(found.malformed)],
        ["rows that were not judged", f"{found.failed} {found.note or ''}"],
    ]
    return f"<h2>Judge {escape(found.judge)}, against {escape(found.against)}</h2>" + table(["", ""], rows)


def _changed(report: Report) -> str:
    found = report.findings
    if not found.answers:
        return ""
    head = f"<h2>Answers that changed against {escape(report.rival)}</h2>" + paragraph(
        f"{found.now_right} rows are better now, {found.now_wrong} worse; the first of each:"
    )
    return head + "".join(
        f"<h3>{words}</h3>" + _rows_of([each for each in found.changed if each.now_right == right])
        for right, words in ((True, "wrong before, right now"), (False, "right before, wrong now"))
        if any(each.now_right == right for each in found.changed)
    )


def _rows_of(changed: Sequence[Changed]) -> str:
    heads = ["line", "prompt", "wanted", "before", "now"]
    lines = "".join(
        f"<tr><td>{each.line or ''}</td>"
        + "".join(f"<td><pre>{escape(cut(text))}</pre></td>" for text in _texts(each))
        + "</tr>"
        for each in changed
    )
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{lines}</table>"


def _texts(each: Changed) -> tuple[str, str, str, str]:
    return each.prompt, each.wanted, each.before, each.after


def _intervals(rows: Sequence[tuple[str, Interval, str]], *, title: str, zero: bool) -> str:
    if not rows:
        return ""
    return picture("intervals", rows, alt=title, title=title, zero=zero)


def _nats(value: float | None) -> str:
    return "" if value is None else number("loss", value)


def _share(found: Interval | None) -> str:
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
