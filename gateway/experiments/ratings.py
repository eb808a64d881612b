"""Ratings among those who rated: secondary, since who rates may depend on the arm.

Whether it does is tested at any time. Where it does, a difference among raters compares different people,
so bounds take its place that hold whatever those who did not rate would have said (Manski 1990).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.experiments.compare import Comparison, Difference
from gateway.experiments.outcomes import Epochs, Outcome, Shares


class Rating(NamedTuple):
    """One closed unit: what it was rated, in [0, 1], or None when nobody rated it."""

    epoch: int
    arm: str
    value: float | None
    chances: Shares | None = None


@dataclass(frozen=True, slots=True)
class Ratings:
    """`rate` is the difference in rating rates; `bounds` are on the difference had everybody rated."""

    rate: Difference
    rates_differ: bool
    among_raters: Difference
    bounds: tuple[float, float]


def ratings(units: Iterable[Rating], epochs: Epochs, *, stable: str, candidate: str, alpha: float) -> Ratings:
    """Return the secondary analysis. Each of its three intervals holds at any time with 1 - `alpha`."""
    rate, among, least, most = (Comparison(stable=stable, candidate=candidate) for _ in range(4))
    for unit in units:
        shares = epochs[unit.epoch]
        rated = unit.value is not None
        rate.add(Outcome(unit.epoch, unit.arm, float(rated), unit.chances), shares)
        if unit.value is not None:
            among.add(Outcome(unit.epoch, unit.arm, unit.value, unit.chances), shares)
        worst = unit.value if unit.value is not None else float(unit.arm != candidate)
        best = unit.value if unit.value is not None else float(unit.arm == candidate)
        least.add(Outcome(unit.epoch, unit.arm, worst, unit.chances), shares)
        most.add(Outcome(unit.epoch, unit.arm, best, unit.chances), shares)
    rates = rate.difference(alpha)
    return Ratings(
        rate=rates,
        rates_differ=rates.low > 0 or rates.high < 0,
        among_raters=among.difference(alpha),
        bounds=(least.low(alpha / 2), most.high(alpha / 2)),
    )
