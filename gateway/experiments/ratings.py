"""Ratings among those who rated: secondary, since who rates may depend on the arm.

Whether it does is tested at any time. Where it does, a difference among raters compares different people,
so bounds take its place that hold whatever those who did not rate would have said (Manski 1990).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.experiments.compare import Comparison, Difference
from gateway.experiments.outcomes import Epochs, Outcome, Shares

UNRATED = 0.5
"""What a unit that nobody rated counts in the outcome per exposed unit: neither good nor bad."""


class Rating(NamedTuple):
    """One closed unit: what it was rated, in [0, 1], or None when nobody rated it."""

    epoch: int
    arm: str
    value: float | None
    chances: Shares | None = None


@dataclass(frozen=True, slots=True)
class Ratings:
    """What is known of an arm's effect on ratings; every interval holds at any time.

    `exposed` is the primary figure: the difference per exposed unit, unrated ones counting half. `rate` is
    the difference in how often units were rated, `among_raters` the difference among those, `bounds` what it
    could be if everybody had rated. `as_low` and `as_high` are `exposed` with 0 and with 1 for the unrated:
    ratings that are missing on one arm alone never move both the way that a better candidate does.
    """

    exposed: Difference
    rate: Difference
    among_raters: Difference
    bounds: tuple[float, float]
    as_low: Difference
    as_high: Difference

    @property
    def rates_differ(self) -> bool:
        """Whether units of one arm were certainly rated more often."""
        return self.rate.low > 0 or self.rate.high < 0

    @property
    def cautious(self) -> tuple[float, float]:
        """What a verdict may rest on: the hull of the three intervals of the outcome per exposed unit."""
        three = (self.exposed, self.as_low, self.as_high)
        return min(one.low for one in three), max(one.high for one in three)


class RatingComparison:
    """The incremental form: add closed units in their order, and read at any time."""

    def __init__(self, *, stable: str, candidate: str) -> None:
        self._candidate = candidate
        arms = {"stable": stable, "candidate": candidate}
        self._exposed, self._rate, self._among = (Comparison(**arms) for _ in range(3))
        self._as_low, self._as_high = Comparison(**arms), Comparison(**arms)
        self._least, self._most = Comparison(**arms), Comparison(**arms)

    def add(self, unit: Rating, shares: Shares) -> None:
        """Count a unit that closed.

        Raises:
            ValueError: its rating is not in [0, 1].
        """

        def count(comparison: Comparison, value: float) -> None:
            comparison.add(Outcome(unit.epoch, unit.arm, value, unit.chances), shares)

        value, theirs = unit.value, float(unit.arm == self._candidate)
        count(self._rate, float(value is not None))
        if value is not None:
            count(self._among, value)
        for comparison, missing in (
            (self._exposed, UNRATED),
            (self._as_low, 0.0),
            (self._as_high, 1.0),
            (self._least, 1 - theirs),
            (self._most, theirs),
        ):
            count(comparison, missing if value is None else value)

    def result(self, alpha: float, *, secondary_alpha: float | None = None) -> Ratings:
        """Return what is known.

        `alpha` is of the outcome per exposed unit and its two variants, which must agree and so need not
        share it; `secondary_alpha` (the same by default) of each of the other three intervals.
        """
        second = alpha if secondary_alpha is None else secondary_alpha
        return Ratings(
            exposed=self._exposed.difference(alpha),
            rate=self._rate.difference(second),
            among_raters=self._among.difference(second),
            bounds=(self._least.low(second / 2), self._most.high(second / 2)),
            as_low=self._as_low.difference(alpha),
            as_high=self._as_high.difference(alpha),
        )


def ratings(
    units: Iterable[Rating],
    epochs: Epochs,
    *,
    stable: str,
    candidate: str,
    alpha: float,
    secondary_alpha: float | None = None,
) -> Ratings:
    """Return what is known of the candidate's ratings against the stable arm's, from closed units.

    Raises:
        KeyError: a unit's epoch is not among the epochs.
        ValueError: a rating is not in [0, 1].
    """
    comparison = RatingComparison(stable=stable, candidate=candidate)
    for unit in units:
        comparison.add(unit, epochs[unit.epoch])
    return comparison.result(alpha, secondary_alpha=secondary_alpha)
