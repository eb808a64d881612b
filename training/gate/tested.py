"""What is asked of a candidate, one question at a time, and what its gap answers. Pure.

Three kinds of question. `better`: superior, on the new rows. `not worse`: not inferior by the margin, on the
old rows and on slices with enough rows. `not harmed`: on what has too few rows to prove anything, where only
certain harm counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from training.evaluation.paired import holm
from training.gate.gaps import ALPHA, MIN_UNITS, Gap, least_units, need_better, need_not_worse

Asks = Literal["better", "not worse", "not harmed"]
State = Literal["holds", "fails", "too few", "harmed"]


@dataclass(frozen=True, slots=True)
class Tested:
    """One question and its answer.

    `part` is a slice of the set, or None for all of it. `bar` is what the interval must lie above, `need` the
    rows that the question takes, `p_harm` the one-sided p-value of "not worse than the other", by Holm where
    the question is one of many.
    """

    set: str
    part: str | None
    against: str
    asks: Asks
    gap: Gap
    bar: float
    need: int
    state: State
    p_harm: float

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.set if self.part is None else f"{self.set}: {self.part}"

    @property
    def slack(self) -> float:
        """How far the interval lies above the bar; negative where it does not."""
        return self.gap.interval.low - self.bar


def superior(name: str, against: str, gap: Gap, *, gain: float, power: float) -> Tested:
    """Ask whether the candidate is better, once the rows would find a difference of `gain` with `power`."""
    need = _at_least_units(gap, need_better(gap, gain, power=power), MIN_UNITS)
    state: State = "holds" if gap.better else "fails"
    return Tested(name, None, against, "better", gap, 0.0, need, _if_enough(gap, need, state), gap.p_worse)


def not_inferior(
    name: str, against: str, gap: Gap, *, margin: float, need: int, part: str | None = None
) -> Tested:
    """Ask whether the candidate is worse by less than the margin, once there are `need` rows."""
    need = _at_least_units(gap, need, least_units(margin))
    state: State = "holds" if gap.within(margin) else "fails"
    answer = _if_enough(gap, need, state)
    return Tested(name, part, against, "not worse", gap, -margin, need, answer, gap.p_worse)


def not_harmed(found: Sequence[Tested]) -> list[Tested]:
    """Ask of all these at once whether the candidate is certainly worse anywhere.

    Holm's correction over them: an equal candidate is stopped by any of them with a chance of ALPHA at most,
    however the parts overlap.
    """
    adjusted = holm([each.gap.p_worse for each in found])
    return [
        replace(each, asks="not harmed", state="harmed" if p <= ALPHA else "holds", p_harm=p)
        for each, p in zip(found, adjusted, strict=True)
    ]


def rows_not_worse(gap: Gap, margin: float, *, power: float) -> int:
    """Return the rows that an equal candidate takes to be proved not worse, never below `least_units`."""
    return max(least_units(margin), need_not_worse(gap, margin, power=power))


def _if_enough(gap: Gap, need: int, state: State) -> State:
    """Too few rows prove nothing good; but harm that is certain on few rows is certain."""
    if gap.rows >= need:
        return state
    return "harmed" if gap.worse else "too few"


def _at_least_units(gap: Gap, need: int, least: int) -> int:
    """Return the rows needed, counting that fewer subjects than `least`, whatever they bring, are too few."""
    return max(need, math.ceil(gap.rows * least / gap.units))
