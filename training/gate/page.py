"""A gate's verdict as one HTML file: what was asked, what the rows said, and which rows got worse."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from training.evaluation.html import cut, paragraph, picture, table, whole
from training.gate.gaps import ALPHA, LEVEL
from training.gate.report import Report
from training.gate.tested import Tested
from training.gate.words import STYLES, VERDICTS, answer, common_lines, points, question, share

_CLASSES = {"holds": "better", "fails": "worse", "harmed": "worse", "too few": "cannot"}
_WORDS = {"holds": "better", "fails": "worse", "harmed": "worse", "too few": "cannot tell"}


def page(report: Report) -> str:
    """Return the report as a whole HTML document. Without matplotlib it has no plot, and says so."""
    candidate = report.systems["candidate"][0]
    return whole(f"{candidate}: gate", "\n".join(part for part in _sections(report) if part))


def _sections(report: Report) -> Iterable[str]:
    decision = report.decision
    candidate, champion = report.systems["candidate"][0], report.systems["champion"][0]
    at = datetime.fromtimestamp(report.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield f"<h1>{escape(candidate)} against {escape(champion)} on {escape(report.route)}</h1>"
    style = STYLES[decision.verdict]
    yield f'<p class="{style}"><b>{VERDICTS[decision.verdict]}</b> {escape(decision.reason)}</p>'
    yield paragraph(
        f"{at}. Differences are {candidate} minus the other, in points, paired on the same rows. Brackets "
        f"are {LEVEL:.0%} intervals: each end is a one-sided test at {ALPHA:.0%}."
    )
    yield "".join(f"<p class=cannot>Note: {escape(note)}</p>" for note in report.notes)
    yield "<h2>The questions</h2>" + _questions([each for each in decision.tested if each.part is None])
    yield _plot(report)
    slices = [each for each in decision.tested if each.part is not None]
    if slices:
        yield "<h2>Slices</h2>" + paragraph(
            "A slice with rows enough is tested like its set. The others are shown, and stop the candidate "
            "only on certain harm, by Holm over all of them."
        )
        yield _questions(slices)
    yield _driver(report)
    yield _phrases(report)
    yield _scores(report)
    yield _calibration(report)
    yield _speed(report)
    settings = [[name, str(value)] for name, value in report.document()["rule"].items()]
    yield "<h2>How it was made</h2>" + table(["setting", "value"], [*settings, ["seed", str(report.seed)]])
    yield paragraph(report.code_version) + f"<pre>{escape(report.command)}</pre>"


def _questions(tested: Sequence[Tested]) -> str:
    rows = [
        [
            each.name,
            str(each.gap.rows),
            question(each),
            points(each.gap.interval),
            f"{each.p_harm:.3g}",
            answer(each),
        ]
        for each in tested
    ]
    classes = [
        _CLASSES[each.state] if each.asks != "not harmed" or each.state == "harmed" else "few"
        for each in tested
    ]
    return table(["rows of", "rows", "question", "difference", "p of harm", "answer"], rows, classes=classes)


def _plot(report: Report) -> str:
    rows = [
        (f"{each.name} / {each.against}", each.gap.interval, _WORDS[each.state])
        for each in report.decision.tested
    ]
    title = "candidate minus the other, as shares"
    return picture("intervals", rows, alt=title, title=title, zero=True) if rows else ""


def _driver(report: Report) -> str:
    driver = report.decision.driver
    if driver is None:
        return ""
    head = f"<h2>What drove it: {escape(driver.name)}, against the {escape(driver.against)}</h2>"
    lines = "".join(paragraph(line) for line in common_lines(report.common))
    if not report.failing:
        return head + lines
    shown = "".join(
        f"<tr><td>{escape(row.row_id or str(row.line))}</td>"
        + "".join(
            f"<td><pre>{escape(cut(text))}</pre></td>"
            for text in (row.prompt, row.wanted, row.before, row.now)
        )
        + "</tr>"
        for row in report.failing
    )
    heads = "".join(f"<th>{name}</th>" for name in ("row", "prompt", "wanted", driver.against, "candidate"))
    return head + lines + f"<table><tr>{heads}</tr>{shown}</table>"


def _phrases(report: Report) -> str:
    if not report.phrases:
        return ""
    rows = [
        [
            each.phrase.shown,
            each.phrase.answer,
            f"{each.phrase.same} of {each.phrase.rows}",
            str(each.phrase.known),
            f"{each.turned} of {each.asked}",
            f"{each.turned_otherwise} of {each.asked}",
            f"{each.champion_turned} of {each.asked}",
            f"{each.champion_turned_otherwise} of {each.asked}",
            f"{each.p_value:.2g}",
            ", ".join(each.phrase.row_ids) if each.suspicious else "",
        ]
        for each in report.phrases
    ]
    heads = [
        *("phrase", "its answer", "rows trained on", "trusted rows", "turned", "by other words"),
        *("champion turned", "by other words", "p", "some of its rows"),
    ]
    classes = ["worse" if each.suspicious else "few" for each in report.phrases]
    return (
        "<h2>Phrases</h2>"
        + paragraph(
            "Phrases of the new rows that it was trained on, those that go with one answer the most and that "
            "trusted rows hardly have, put into rows that the candidate answers rightly otherwise."
        )
        + table(heads, rows, classes=classes)
    )


def _scores(report: Report) -> str:
    rows = [
        [each.set, report.systems[each.role][0], each.role, str(each.rows), str(each.units), share(each.here)]
        for each in report.scores
    ]
    heads = ["rows of", "version", "role", "rows", "subjects", report.metric]
    return f"<h2>{escape(report.metric)}</h2>" + table(heads, rows)


def _calibration(report: Report) -> str:
    if not report.calibration:
        return ""
    rows = [
        [
            each.set,
            each.role,
            share(each.error),
            f"up to {each.if_calibrated.high:.3f}",
            share(each.brier),
            ""
            if each.brier_gap is None
            else f"{each.brier_gap.value:+.3f} [{each.brier_gap.low:+.3f}, {each.brier_gap.high:+.3f}]",
        ]
        for each in report.calibration
    ]
    heads = ["rows of", "role", "calibration error", "if calibrated", "Brier score", "candidate minus it"]
    return "<h2>Calibration</h2>" + table(heads, rows)


def _speed(report: Report) -> str:
    rows = [
        [
            each.role,
            each.system,
            f"{1000 * each.s_per_row:.0f} [{1000 * each.low:.0f}, {1000 * each.high:.0f}]",
            str(each.rank or ""),
            "" if each.size_bytes is None else f"{each.size_bytes / 1e6:.1f}",
        ]
        for each in report.speed
    ]
    heads = ["role", "version", "ms a row [least, most]", "rank", "MB"]
    return "<h2>Speed</h2>" + paragraph("In this process, by turns on the same rows.") + table(heads, rows)
