"""A confidence sequence for a mean of values between 0 and 1: an interval that holds at every moment at once.

The predictable plug-in empirical Bernstein sequence of Waudby-Smith and Ramdas (Estimating means of bounded
random variables by betting, JRSS B 2024, theorem 2). It needs a constant conditional mean; otherwise it
covers the average of the conditional means, weighted by the bets, which fall slowly.
"""

from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Any

from monitoring.rates import Estimate

_LARGEST_BET = 0.5


@dataclass(slots=True)
class MeanSequence:
    """The sums behind the interval. `squares` are of deviations from the guess before each value."""

    confidence: float
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    bets: float = 0.0
    weighted: float = 0.0
    width: float = 0.0

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "MeanSequence":
        """Return the sequence of `document()`."""
        return cls(**document)

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def add(self, value: float) -> None:
        """Count a value between 0 and 1."""
        guess = (self.total + 0.5) / (self.count + 1)
        variance = (self.squares + 0.25) / (self.count + 1)
        place = self.count + 1
        bet = min(sqrt(2 * self._log_chance() / (variance * place * log(1 + place))), _LARGEST_BET)
        self.bets += bet
        self.weighted += bet * value
        self.width += (value - guess) ** 2 * (-log1p(-bet) - bet)
        self.count += 1
        self.total += value
        self.squares += (value - (self.total + 0.5) / (self.count + 1)) ** 2

    def interval(self) -> Estimate:
        """Return the interval; from 0 to 1 while there is no value."""
        if not self.count:
            return Estimate(0.5, 0.0, 1.0)
        centre = self.weighted / self.bets
        half = (self._log_chance() + self.width) / self.bets
        return Estimate(centre, max(0.0, centre - half), min(1.0, centre + half))

    def _log_chance(self) -> float:
        return log(2 / (1 - self.confidence))
