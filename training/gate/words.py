"""A gate's findings in words and numbers, as its page and its table both say them. Pure."""

from training.evaluation.resampling import Interval
from training.gate.common import Common
from training.gate.phrases import Probed
from training.gate.tested import Tested

VERDICTS = {
    "passed": "PASSED",
    "failed": "FAILED",
    "too_few_rows": "TOO FEW ROWS",
    "needs_approval": "NEEDS APPROVAL",
}
STYLES = {"passed": "better", "failed": "worse", "too_few_rows": "cannot", "needs_approval": "cannot"}
SURE = 0.05


def points(here: Interval) -> str:
    """Return a difference of shares in points, with its interval."""
    return f"{100 * here.value:+.1f} [{100 * here.low:+.1f}, {100 * here.high:+.1f}]"


def share(here: Interval) -> str:
    """Return a share with its interval."""
    return f"{here.value:.3f} [{here.low:.3f}, {here.high:.3f}]"


def question(each: Tested) -> str:
    """Return what was asked."""
    if each.asks == "better":
        return f"better than the {each.against}?"
    if each.asks == "not worse":
        return f"less than {-100 * each.bar:g} points worse than the {each.against}?"
    return f"certainly worse than the {each.against}?"


def answer(each: Tested) -> str:
    """Return what the rows say to it."""
    if each.state == "too few":
        return f"too few rows: need {each.need}"
    if each.state == "harmed":
        return (
            f"yes, certainly worse (p {each.p_harm:.2g})" if each.asks == "not harmed" else "certainly worse"
        )
    if each.asks == "not harmed":
        return f"no (p {each.p_harm:.2g}); {each.need} rows would take a test"
    return "yes" if each.state == "holds" else "not shown"


def phrase_line(each: Probed) -> str:
    """Return what a phrase does, and whether a person must look at it."""
    phrase = each.phrase
    return (
        f"“{phrase.shown}” (in {phrase.rows} rows that it was trained on, {phrase.same} of them "
        f"{phrase.answer}) turns {each.turned} of {each.asked} right answers into {phrase.answer}, other "
        f"words {each.turned_otherwise}; of the champion {each.champion_turned} and "
        f"{each.champion_turned_otherwise}: "
        f"{'look at it' if each.suspicious else 'as words do'}"
    )


def common_lines(found: Common | None) -> list[str]:
    """Return what failing rows have in common, a line for each kind of finding."""
    if found is None:
        return ["Too few rows fail to have anything in common."]
    first = (
        f"{found.failing} of {found.rows} rows are answered worse; their prompts have "
        f"{found.length_failing:.0f} characters, the others {found.length_others:.0f} (medians)."
    )
    lines = [first]
    if found.words:
        said = [
            f"{word.word} ({word.failing:.0%} of them, {word.others:.0%} of the others"
            f"{', certain' if word.p_value <= SURE else ''})"
            for word in found.words
        ]
        lines.append("Words: " + ", ".join(said))
    for title, shares in (("Wanted answers", found.answers), ("Fields", found.fields)):
        if shares:
            said = [f"{each.name} ({each.failing:.0%} of them, {each.all:.0%} of all)" for each in shares]
            lines.append(f"{title}: " + ", ".join(said))
    return lines
