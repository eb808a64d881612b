"""From figures to words: what may be said of a candidate, and when nothing may.

One primary metric has an alpha of its own; the others share what is left, and several candidates share each.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from gateway.experiments.compare import Difference
from gateway.experiments.guardrails import Better
from gateway.experiments.mismatch import Mismatch
from gateway.experiments.plan import Plan
from gateway.experiments.ratings import Ratings

FEWEST_UNITS = 30
"""In each arm, below which a route that is sticky by key or tenant gets no verdict."""

_PRIMARY_PART = 0.8
_COARSE = 10.0


class Finding(StrEnum):
    """What a verdict comes to."""

    BETTER = "better"
    WORSE = "worse"
    NOT_WORSE = "not_worse"
    UNKNOWN = "unknown"
    WITHHELD = "withheld"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of one candidate against the stable arm.

    `minimum` is the smallest difference that matters. `scale` turns a difference into what people read:
    100 for points of a share, or the width of a metric's range with its own `unit`.
    """

    candidate: str
    stable: str
    metric: str
    better: Better
    minimum: float
    difference: Difference
    scale: float = 100.0
    unit: str = "points"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`promote` is True only where the figures alone speak for it; `text` says it to people."""

    finding: Finding
    promote: bool
    text: str


def alphas(alpha: float, *, others: int, candidates: int = 1) -> tuple[float, float]:
    """Return the alpha of the primary metric and of each other one, for each of the candidates."""
    each = alpha / max(candidates, 1)
    if others <= 0:
        return each, 0.0
    return each * _PRIMARY_PART, each * (1 - _PRIMARY_PART) / others


def verdict(
    reading: Reading,
    *,
    mismatch: Mismatch,
    ratings: Ratings | None = None,
    plan: Plan | None = None,
    sticky: Literal["subject", "key", "tenant", "none"] = "subject",
    same_expected: bool = False,
) -> Verdict:
    """Return what may be said.

    `ratings` belong to a metric that not every unit has; its `exposed` is then the reading's difference.
    `same_expected` is an A/A experiment: both arms are known to be equal.
    """
    withheld = _withheld(reading, mismatch, sticky)
    if withheld:
        return Verdict(Finding.WITHHELD, promote=False, text=withheld)
    units = _units(reading, sticky)
    if same_expected:
        return _of_equals(reading, units)
    if ratings is not None and ratings.rates_differ:
        return Verdict(Finding.WITHHELD, promote=False, text=_unequal_rates(reading, ratings))
    return _of(reading, ratings, plan, units)


def _withheld(reading: Reading, mismatch: Mismatch, sticky: str) -> str | None:
    if mismatch.suspicious:
        return (
            f"no verdict: the arms did not get the units that their shares promise (epoch {mismatch.epoch}, "
            f"p = {mismatch.p_value:.2g}); find out why before believing any figure"
        )
    fewest = min(reading.difference.stable_units, reading.difference.candidate_units)
    if sticky in ("key", "tenant") and fewest < FEWEST_UNITS:
        short = f"the smaller arm has {fewest} units of at least {FEWEST_UNITS}"
        return f"no verdict: sticky by {sticky}, and {short}"
    return None


def _of(reading: Reading, ratings: Ratings | None, plan: Plan | None, units: str) -> Verdict:
    estimate, low, high = _gain(reading, ratings)
    about, name = f"on {reading.metric} by", f"{reading.candidate} is"
    if estimate is None:
        return Verdict(
            Finding.UNKNOWN, promote=False, text=f"cannot tell yet{_outlook(reading, plan)}{units}"
        )
    if low > 0:
        text = f"{name} better {about} {_said(reading, estimate)} (at least {_bare(reading, low)})"
        return Verdict(Finding.BETTER, promote=True, text=f"{text}: safe to promote{units}")
    if high < 0:
        text = f"{name} worse {about} {_said(reading, -estimate)} (at least {_bare(reading, -high)})"
        return Verdict(Finding.WORSE, promote=False, text=f"{text}: do not promote{units}")
    if low >= -reading.minimum:
        text = f"{name} not worse {about} more than {_said(reading, -low)}"
        return Verdict(Finding.NOT_WORSE, promote=True, text=f"{text}: safe to promote{units}")
    text = f"cannot tell yet{_outlook(reading, plan)}{units}"
    if not reading.difference.low <= 0 <= reading.difference.high:
        text = f"cannot tell yet: arms differ on {reading.metric}, but who rated could account for it{units}"
    return Verdict(Finding.UNKNOWN, promote=False, text=text)


def _gain(reading: Reading, ratings: Ratings | None) -> tuple[float | None, float, float]:
    """Return estimate, low and high of how much better the candidate is."""
    estimate = reading.difference.estimate
    low, high = ratings.cautious if ratings else (reading.difference.low, reading.difference.high)
    if reading.better == "higher":
        return estimate, low, high
    return (None if estimate is None else -estimate), -high, -low


def _of_equals(reading: Reading, units: str) -> Verdict:
    estimate, low, high = _gain(reading, None)
    if estimate is not None and not low <= 0 <= high:
        text = f"A/A: equal arms differ on {reading.metric} by {_said(reading, abs(estimate))}"
        return Verdict(Finding.WITHHELD, promote=False, text=f"{text}: do not trust this experiment{units}")
    text = f"A/A: no difference on {reading.metric}, between {_bare(reading, low)} and {_said(reading, high)}"
    return Verdict(Finding.SAME, promote=False, text=text + units)


def _unequal_rates(reading: Reading, ratings: Ratings) -> str:
    rate = ratings.rate
    low, high = ratings.bounds
    more = "more" if rate.low > 0 else "less"
    by = f"by {100 * abs(rate.estimate or 0.0):.1f} points, at least {100 * max(rate.low, -rate.high):.1f}"
    return (
        f"no verdict on {reading.metric}: {reading.candidate} was rated {more} often than {reading.stable} "
        f"({by}), so raters do not compare; had everybody rated, the difference would be between "
        f"{_bare(reading, low)} and {_said(reading, high)}"
    )


def _outlook(reading: Reading, plan: Plan | None) -> str:
    if plan is None:
        return ""
    difference = f"{plan.difference * reading.scale:g} {reading.unit}".rstrip()
    if plan.days is None:
        return f"; at this rate a difference of {difference} will not be found"
    if plan.days <= 0:
        return f"; a difference of {difference} would most likely have shown by now"
    return f"; at this rate about {_days(plan.days)} for a difference of {difference}"


def _days(days: float) -> str:
    if days < 2 / 24:
        return "an hour"
    if days < 2:
        return f"{days * 24:.0f} hours"
    return f"{days:.0f} days"


def _units(reading: Reading, sticky: str) -> str:
    d = reading.difference
    if sticky == "subject":
        return ""
    kind = {"none": "each request is a unit", "key": "keys", "tenant": "tenants"}[sticky]
    return f" ({d.candidate_units} against {d.stable_units} units: {kind})"


def _said(reading: Reading, value: float) -> str:
    return f"{_bare(reading, value)} {reading.unit}".rstrip()


def _bare(reading: Reading, value: float) -> str:
    return f"{value * reading.scale:.{1 if reading.scale >= _COARSE else 2}f}"
