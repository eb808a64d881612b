"""Comparisons that are carried on from look to look, so that a look costs what is new since the last one.

Units close in an order that looking later only adds to. Where that does not hold, because a row came late or
a clock jumped, the comparison is made anew: what is found never depends on how often anybody looked.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.experiments.compare import Comparison, Difference
from gateway.experiments.experiment import Experiment
from gateway.experiments.measures import Closed, Measure, outcomes, rated
from gateway.experiments.ratings import RatingComparison, Ratings


@dataclass(slots=True)
class Tally:
    """One metric of one candidate so far. Metrics of feedback are counted with all that ratings need."""

    plain: Comparison | None
    ratings: RatingComparison | None
    count: int = 0
    last: tuple[float, str, float | None] | None = None

    def difference(self, alpha: float) -> Difference:
        """Return the difference per exposed unit."""
        if self.ratings is not None:
            return self.ratings.result(alpha).exposed
        assert self.plain is not None  # noqa: S101 - one of the two is there
        return self.plain.difference(alpha)

    def of_ratings(self, alpha: float) -> Ratings | None:
        """Return the analysis of the ratings; None for metrics that every unit has."""
        return None if self.ratings is None else self.ratings.result(alpha)

    def goes_on(self, closed: Sequence[Closed]) -> bool:
        """Whether `closed` begins with the very units that were counted."""
        if self.last is None:
            return True
        if len(closed) < self.count or _mark(closed[self.count - 1]) != self.last:
            return False
        return bisect_right(closed, self.last[0], hi=self.count, key=lambda one: one.at) == self.count


@dataclass(slots=True)
class Ledger:
    """The tallies of one experiment. It belongs to it alone, and to one sample of its units."""

    _tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def tally(
        self, experiment: Experiment, measure: Measure, candidate: str, closed: Sequence[Closed]
    ) -> Tally:
        """Return the tally of a metric's closed units in the two arms, which are all given each time."""
        key = (measure.name, candidate)
        tally = self._tallies.get(key)
        if tally is None or not tally.goes_on(closed):
            tally = self._tallies[key] = _begun(experiment, measure, candidate)
        _count(tally, experiment, measure, candidate, closed[tally.count :])
        return tally


def _begun(experiment: Experiment, measure: Measure, candidate: str) -> Tally:
    arms = {"stable": experiment.stable, "candidate": candidate}
    if measure.unrated is None:
        return Tally(Comparison(**arms), None)
    return Tally(None, RatingComparison(**arms))


def _count(
    tally: Tally, experiment: Experiment, measure: Measure, candidate: str, new: Sequence[Closed]
) -> None:
    if not new:
        return
    epochs, arms = experiment.epochs, {"stable": experiment.stable, "candidate": candidate}
    if tally.plain is not None:
        for outcome in outcomes(new, epochs, **arms, unrated=measure.unrated):
            tally.plain.add(outcome, epochs[outcome.epoch])
    if tally.ratings is not None:
        for rating in rated(new, epochs, **arms):
            tally.ratings.add(rating, epochs[rating.epoch])
    tally.count += len(new)
    tally.last = _mark(new[-1])


def _mark(closed: Closed) -> tuple[float, str, float | None]:
    return closed.at, closed.unit.name, closed.value
