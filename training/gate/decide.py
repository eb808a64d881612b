"""From gaps to a verdict: the rule of the gate. Pure; nothing is asked of a model here.

All questions must be answered well for a pass, so their levels are not divided among them: a candidate that
deserves no pass on one of them passes with a chance of ALPHA at most (the intersection-union test: Berger,
Technometrics 24, 1982). Power is shared instead, so that a good candidate has a chance: `SET_POWER` on each
of the two sets, and all slices together at `SLICE_POWER`. A slice with fewer rows than that takes is shown,
and stops the candidate on certain harm alone, with Holm's correction over all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from training.gate.gaps import MIN_UNITS, Gap, least_units, need_better
from training.gate.tested import Tested, not_harmed, not_inferior, rows_not_worse, superior

LEAST_RIGHT = 0.1
"""Where the champion is right on a smaller share of the new rows, they were chosen because it failed."""

Verdict = Literal["passed", "failed", "too_few_rows", "needs_approval"]
CHAMPION, BEST = "champion", "best"
NEW, OLD, GOLDEN, TRUSTED = "new", "old", "golden", "new, trusted"
SET_POWER = 0.9
"""Each of the two sets: a candidate that is better by the gain and equal on the old passes both with 80 %."""

SLICE_POWER = 0.9
"""All slices that are tested, together: an equal candidate is held up by any of them in one case of ten."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the gate asks for. `margin` and `gain` are differences of shares.

    `margin`: the loss on old rows that counts as none. `gain`: the improvement on new rows that there must be
    enough rows to find. `min_trusted`: new rows from a trusted source (count) without which a person decides;
    unless it is 0, they must be of `MIN_UNITS` subjects too.
    """

    margin: float = 0.05
    gain: float = 0.1
    min_trusted: int = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """All that is known when the verdict is given.

    `sets` has the gaps of new rows, and of old and golden ones together: {set: {other system: gap}}; `parts`
    those of slices against the champion: {set: {slice: gap}}. `trusted` is the gap on the new rows from a
    trusted source, None without. `champion_right` is the champion's own figure on the new rows, a share.
    """

    sets: Mapping[str, Mapping[str, Gap]]
    parts: Mapping[str, Mapping[str, Gap]] = field(default_factory=dict)
    trusted: Gap | None = None
    champion_right: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, why, which question drove it, all questions, and the rows that are lacking, if any are."""

    verdict: Verdict
    reason: str
    driver: Tested | None
    tested: tuple[Tested, ...]
    need_rows: int | None = None


def decide(measured: Measured, rule: Rule) -> Decision:
    """Return the verdict on a candidate.

    Raises:
        ValueError: there are no rows at all.
    """
    if not any(measured.sets.values()):
        raise ValueError("there are no rows to judge by")
    tested = _asked(measured, rule)
    stopped = [each for each in tested if each.state in ("harmed", "fails")]
    if stopped:
        driver = min(stopped, key=_conviction)
        return Decision("failed", _why_failed(driver, rule), driver, tested)
    missing = _missing(measured, rule)
    if missing is not None:
        return Decision("too_few_rows", missing[0], None, tested, missing[1])
    few = [each for each in tested if each.state == "too few"]
    if few:
        driver = max(few, key=lambda each: each.need / each.gap.rows)
        return Decision("too_few_rows", _why_few(driver), driver, tested, driver.need)
    driver = min((each for each in tested if each.asks != "not harmed"), key=lambda each: each.slack)
    doubt = _distrust(measured, rule)
    if doubt is not None:
        return Decision("needs_approval", doubt, driver, tested)
    return Decision("passed", _why_passed(tested, driver, rule), driver, tested)


def _asked(measured: Measured, rule: Rule) -> tuple[Tested, ...]:
    asked: list[Tested] = []
    small: list[Tested] = []
    for against, gap in measured.sets.get(NEW, {}).items():
        if against == CHAMPION:
            asked.append(superior(NEW, against, gap, gain=rule.gain, power=SET_POWER))
    for against, gap in measured.sets.get(OLD, {}).items():
        need = rows_not_worse(gap, rule.margin, power=SET_POWER)
        asked.append(not_inferior(OLD, against, gap, margin=rule.margin, need=need))
    for found in _sliced(measured, rule):
        (asked if found.gap.rows >= found.need else small).append(found)
    if measured.trusted is not None and measured.trusted.rows < _rows(measured, NEW):
        small.append(not_inferior(TRUSTED, CHAMPION, measured.trusted, margin=rule.margin, need=0))
    return (*asked, *not_harmed(small))


def _sliced(measured: Measured, rule: Rule) -> list[Tested]:
    """Return the slices, each with the rows that it takes: by how its whole set differs, not by its own."""
    least = least_units(rule.margin)
    large = sum(gap.units >= least for parts in measured.parts.values() for gap in parts.values())
    power = 1 - (1 - SLICE_POWER) / max(1, large)
    found: list[Tested] = []
    for name, parts in measured.parts.items():
        need = rows_not_worse(measured.sets[name][CHAMPION], rule.margin, power=power)
        found += [
            not_inferior(name, CHAMPION, gap, margin=rule.margin, need=need, part=part)
            for part, gap in parts.items()
        ]
    return found


def _missing(measured: Measured, rule: Rule) -> tuple[str, int] | None:
    """Return what is said of a whole set that has no rows, with the rows it takes, as the others differ."""
    new, old = measured.sets.get(NEW, {}), measured.sets.get(OLD, {})
    if not new:
        need = max(MIN_UNITS, need_better(old[CHAMPION], rule.gain, power=SET_POWER))
        return f"There are no new held-out rows; need about {need}.", need
    if not old:
        need = rows_not_worse(new[CHAMPION], rule.margin, power=SET_POWER)
        return f"There are no old held-out or golden rows; need about {need}.", need
    return None


def _distrust(measured: Measured, rule: Rule) -> str | None:
    """Return why a person must decide, or None.

    People correct answers that are wrong. On rows that were chosen so, any other version looks better. And
    feedback that is poisoned poisons the rows that are made of it too.
    """
    if measured.champion_right is not None and measured.champion_right < LEAST_RIGHT:
        return (
            f"All questions are answered well, but the champion is right on {measured.champion_right:.0%} of "
            "the new rows: they look chosen because it failed, and any other version is better on such rows."
        )
    if rule.min_trusted == 0:
        return None
    rows = 0 if measured.trusted is None else measured.trusted.rows
    if measured.trusted is None or rows < rule.min_trusted:
        return (
            f"All questions are answered well, but only {rows} new held-out rows come from a trusted source, "
            f"and promotion without a person needs {rule.min_trusted}."
        )
    if measured.trusted.units < MIN_UNITS:
        return (
            f"All questions are answered well, but the number of subjects behind the {rows} new rows from a "
            f"trusted source is {measured.trusted.units}, and promotion without a person needs {MIN_UNITS}."
        )
    if not measured.trusted.better:
        return (
            f"All questions are answered well, but on the {rows} new rows from a trusted source alone it is "
            f"not certain that the candidate is better ({_points(measured.trusted)}, "
            f"p {measured.trusted.p_better:.2g})."
        )
    return None


def _rows(measured: Measured, name: str) -> int:
    gaps: Sequence[Gap] = list(measured.sets.get(name, {}).values())
    return gaps[0].rows if gaps else 0


def _conviction(each: Tested) -> tuple[bool, float, float]:
    """Certain harm first, the most certain of all; then what lies deepest below its bar."""
    harmed = each.gap.worse or each.state == "harmed"
    return (not harmed, each.p_harm if harmed else 0.0, each.slack)


def _why_failed(each: Tested, rule: Rule) -> str:
    points = _points(each.gap)
    if each.state == "harmed" or each.gap.worse:
        chance = f"p {each.p_harm:.2g}" + (" by Holm" if each.asks == "not harmed" else "")
        how = f"is certainly worse than the {each.against} ({points}, {chance})"
    elif each.asks == "better":
        chance = f"p {each.gap.p_better:.2g}"
        how = (
            f"is not certainly better than the {each.against} ({points}, {chance}), "
            "with rows enough to see it"
        )
    else:
        how = (
            f"may be worse than the {each.against} by {100 * rule.margin:g} points or more "
            f"({points}), with rows enough to see that it is not"
        )
    return f"On {each.name} ({each.gap.rows} rows) the candidate {how}."


def _why_few(each: Tested) -> str:
    what = "better" if each.asks == "better" else "not worse"
    return (
        f"Too few {each.name} rows to prove the candidate {what} than the {each.against}: "
        f"{each.gap.rows}, need {each.need}."
    )


def _why_passed(tested: Sequence[Tested], driver: Tested, rule: Rule) -> str:
    new = next(each for each in tested if each.asks == "better")
    return (
        f"Better on the new rows ({_points(new.gap)}) and not worse by {100 * rule.margin:g} points on the "
        f"old; the closest question was {driver.name} against the {driver.against} ({_points(driver.gap)})."
    )


def _points(gap: Gap) -> str:
    low, high = gap.interval.low, gap.interval.high
    return f"{100 * gap.interval.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
