"""The difference between two arms, with an interval that is valid however often one looks.

A unit in the candidate's or the stable arm is the candidate's with a known chance q, frozen for its epoch.
With any guess m of its value that rests on earlier units alone,

    z = (1 - q) (value - m)  for a candidate's unit,   z = -q (value - m)  for a stable one

has mean q (1 - q) * (difference that the arm makes to this unit), whatever the unit, the time or the epoch:
the randomisation alone makes it so. Sums of z are thus bounds (gateway.experiments.wealth) on the average
difference, weighted by q (1 - q), over the units seen. Each unit is compared within its own epoch, so ramps
do not mix periods, and |z| <= 1 even where an arm has 1 % of the traffic.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.experiments.outcomes import Epochs, Outcome, Shares, candidate_chance
from gateway.experiments.wealth import Wealth

WORST_VARIANCE = 0.25
"""Of a value in [0, 1]: half of the units 0, half of them 1."""

_PRIOR_UNITS = 8.0
_MEMORY_UNITS = 64


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus stable. The interval lies in [-1, 1] and holds at all times at once.

    The means are standardised to the same mix of epochs, so that their difference is the estimate (kept
    inside the interval, which matters for a handful of units only); all three are None until both arms have a
    unit in one epoch. The counts are of units that tell the arms apart. `information` is the sum of q (1 - q)
    over them, and `variance` that of a unit's value, as a planner needs it (cautious while little is known).
    """

    estimate: float | None
    low: float
    high: float
    stable_mean: float | None
    candidate_mean: float | None
    stable_units: int
    candidate_units: int
    information: float = 0.0
    variance: float = WORST_VARIANCE


@dataclass(slots=True)
class _Stratum:
    """Units with the same chance in the same epoch."""

    weight: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0, 0])
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])


class _Guess:
    """What the next unit's value is expected to be, from earlier units: the closer, the smaller the steps.

    The level follows the last hundred units, since days and versions of a prompt differ. It makes steps
    small, and it makes bounds insensitive to units that are left out more often on one arm, as cold ones are:
    what that does to the mean of z is the product of the two errors.
    """

    __slots__ = ("_candidates", "_excess", "_level", "_units")

    def __init__(self) -> None:
        self._level = 0.5
        self._units = 1
        self._excess = 0.0
        self._candidates = _PRIOR_UNITS

    def of(self, q: float) -> float:
        """Return the guess for a unit with the candidate's chance `q`."""
        return min(max(self._level + (1 - q) * self._excess / self._candidates, 0.0), 1.0)

    def learn(self, arm: int, value: float) -> None:
        """Take a unit into account."""
        difference = self._excess / self._candidates
        if arm:
            self._excess += value - self._level
            self._candidates += 1
        self._units = min(self._units + 1, _MEMORY_UNITS)
        self._level += (value - arm * difference - self._level) / self._units


class Comparison:
    """The incremental form: add closed units in their order, and read at any time."""

    __slots__ = (
        "_candidate",
        "_counts",
        "_down",
        "_guess",
        "_information",
        "_squares",
        "_stable",
        "_strata",
        "_up",
    )

    def __init__(self, *, stable: str, candidate: str) -> None:
        self._stable = stable
        self._candidate = candidate
        self._up = Wealth()
        self._down = Wealth()
        self._information = 0.0
        self._squares = 0.0
        self._counts = [0, 0]
        self._guess = _Guess()
        self._strata: dict[tuple[int, float], _Stratum] = {}

    def add(self, outcome: Outcome, shares: Shares) -> None:
        """Count a unit that closed. `shares` are its epoch's. Epochs with only one of the arms tell nothing.

        Raises:
            ValueError: the value is not in [0, 1].
        """
        if not 0 <= outcome.value <= 1:
            raise ValueError(f"an outcome of {outcome.value!r} is not between 0 and 1")
        if outcome.arm not in (self._stable, self._candidate):
            return
        q = candidate_chance(outcome.chances or shares, stable=self._stable, candidate=self._candidate)
        if not 0 < q < 1:
            return
        arm = int(outcome.arm == self._candidate)
        residual = outcome.value - self._guess.of(q)
        step = (1 - q) * residual if arm else -q * residual
        self._up.add(step)
        self._down.add(-step)
        self._information += q * (1 - q)
        self._squares += step * step
        self._guess.learn(arm, outcome.value)
        self._count(arm, outcome, q)

    def difference(self, alpha: float) -> Difference:
        """Return the difference with its two-sided interval at level 1 - `alpha`."""
        stable, candidate = self._means()
        low, high = self.low(alpha / 2), self.high(alpha / 2)
        estimate = None
        if stable is not None and candidate is not None:
            estimate = min(max(candidate - stable, low), high)
        return Difference(
            estimate=estimate,
            low=low,
            high=high,
            stable_mean=stable,
            candidate_mean=candidate,
            stable_units=self._counts[0],
            candidate_units=self._counts[1],
            information=self._information,
            variance=(WORST_VARIANCE + self._squares) / (1 + self._information),
        )

    def low(self, alpha: float) -> float:
        """Return the one-sided lower bound on the difference: ever wrong with probability at most `alpha`."""
        return _bounded(self._up.low(alpha), self._information)

    def high(self, alpha: float) -> float:
        """Return the one-sided upper bound on the difference, at the same terms."""
        return -_bounded(self._down.low(alpha), self._information)

    def above(self, limit: float, alpha: float) -> bool:
        """Whether `low(alpha)` is above `limit`; cheaper than the bound itself."""
        return self._up.refutes(limit * self._information, alpha)

    def below(self, limit: float, alpha: float) -> bool:
        """Whether `high(alpha)` is below `limit`."""
        return self._down.refutes(-limit * self._information, alpha)

    def _count(self, arm: int, outcome: Outcome, q: float) -> None:
        stratum = self._strata.get((outcome.epoch, q))
        if stratum is None:
            stratum = self._strata[outcome.epoch, q] = _Stratum()
        stratum.weight += q * (1 - q)
        stratum.counts[arm] += 1
        stratum.sums[arm] += outcome.value
        self._counts[arm] += 1

    def _means(self) -> tuple[float | None, float | None]:
        full = [stratum for stratum in self._strata.values() if all(stratum.counts)]
        weight = sum(stratum.weight for stratum in full)
        if not weight:
            return None, None
        stable, candidate = (
            sum(s.weight * s.sums[arm] / s.counts[arm] for s in full) / weight for arm in (0, 1)
        )
        return stable, candidate


def compare(
    outcomes: Iterable[Outcome], epochs: Epochs, *, stable: str, candidate: str, alpha: float
) -> Difference:
    """Return the difference candidate - stable over closed units, with an interval valid at any time.

    Raises:
        KeyError: an outcome's epoch is not among the epochs.
        ValueError: an outcome's value is not in [0, 1].
    """
    comparison = Comparison(stable=stable, candidate=candidate)
    for outcome in outcomes:
        comparison.add(outcome, epochs[outcome.epoch])
    return comparison.difference(alpha)


def _bounded(total: float, information: float) -> float:
    if total <= -information:
        return -1.0
    return min(1.0, total / information)
