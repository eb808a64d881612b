"""What `make bench-experiments` asks of the statistics: one simulated experiment each, by its number.

The generator of an experiment is seeded by what it is and its number, so results do not depend on how the
work is divided. Peeking means after every unit.
"""

import math
import random
from collections import deque
from dataclasses import dataclass

from gateway.experiments.compare import Comparison
from gateway.experiments.guardrails import alpha_each, hard_stop
from gateway.experiments.mismatch import mismatch
from gateway.experiments.outcomes import Outcome
from gateway.experiments.plan import fixed_horizon_units
from gateway.experiments.ratings import Rating, RatingComparison
from loadtests.experiments.worlds import (
    CANDIDATE,
    EFFECTS,
    EQUAL,
    RAMP,
    STABLE,
    fixed,
    shares_of,
)

ALPHA = 0.05
ARMS = {"stable": STABLE, "candidate": CANDIDATE}
_NAIVE_FROM = 30
_Z = 1.959964
_LAST_STEP_UNITS = 500
_FAILURES_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Looked:
    """Whether looking after every unit ever found a difference: by the product, and by a z-test."""

    product: bool
    naive: bool


class ZTest:
    """What is usually done: pooled means, looked at as if for the only time."""

    def __init__(self) -> None:
        self._counts = {STABLE: 0, CANDIDATE: 0}
        self._sums = {STABLE: 0.0, CANDIDATE: 0.0}
        self._squares = {STABLE: 0.0, CANDIDATE: 0.0}

    def add(self, outcome: Outcome) -> None:
        """Count a unit."""
        self._counts[outcome.arm] += 1
        self._sums[outcome.arm] += outcome.value
        self._squares[outcome.arm] += outcome.value**2

    def significant(self) -> bool:
        """Whether the difference is significant at 5 %, with 30 units in each arm at least."""
        stable, candidate = self._counts[STABLE], self._counts[CANDIDATE]
        if min(stable, candidate) < _NAIVE_FROM:
            return False
        old, new = self._sums[STABLE] / stable, self._sums[CANDIDATE] / candidate
        error = (self._squares[STABLE] / stable - old * old) / stable
        error += (self._squares[CANDIDATE] / candidate - new * new) / candidate
        return abs(new - old) > _Z * math.sqrt(max(error, 0.0))


def rng_of(*names: object) -> random.Random:
    """Return the generator of one experiment."""
    return random.Random("/".join(map(str, names)))


def false_positive(world: str, number: int, units: int) -> Looked:
    """Look at equal arms after every unit."""
    comparison, naive = Comparison(**ARMS), ZTest()
    product_found = naive_found = False
    for unit in EQUAL[world](rng_of("equal", world, number), units):
        if not product_found:
            comparison.add(unit.outcome, unit.shares)
            product_found = comparison.above(0, ALPHA / 2) or comparison.below(0, ALPHA / 2)
        naive.add(unit.outcome)
        naive_found = naive_found or naive.significant()
        if product_found and naive_found:
            break
    return Looked(product_found, naive_found)


def covered(world: str, number: int, units: int) -> bool:
    """Whether the interval held the true average difference after each unit."""
    comparison = Comparison(**ARMS)
    weight = total = 0.0
    for unit in EFFECTS[world](rng_of("effect", world, number), units):
        comparison.add(unit.outcome, unit.shares)
        information = unit.shares[STABLE] * unit.shares[CANDIDATE]
        weight += information
        total += information * unit.effect
        true = total / weight
        if comparison.above(true, ALPHA / 2) or comparison.below(true, ALPHA / 2):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric of a simulated canary, as a failure: the stable arm's rate and the limit on the difference."""

    rate: float
    limit: float


GUARDRAILS = {
    "errors": Guardrail(0.01, 0.02),
    "over_ttft_slo": Guardrail(0.05, 0.05),
    "disliked": Guardrail(0.3, 0.05),
}


def rolled_back(kind: str, number: int, min_units: int) -> bool:
    """Run a canary over its steps, looking after every unit; the last step goes on for longer.

    `kind`: `equal`; `equal_zero_limits`, where nothing at all is tolerated; `at_the_limits`, where the
    candidate is worse by exactly what is tolerated, on every guardrail.
    """
    rng = rng_of("canary", kind, number)
    alpha = alpha_each(ALPHA, len(GUARDRAILS)) / 2
    limits = {name: 0.0 if kind == "equal_zero_limits" else rail.limit for name, rail in GUARDRAILS.items()}
    worse = {name: limits[name] if kind == "at_the_limits" else 0.0 for name in GUARDRAILS}
    comparisons = {name: Comparison(**ARMS) for name in GUARDRAILS}
    failures: deque[bool] = deque(maxlen=_FAILURES_IN_A_ROW)
    for epoch, share in enumerate(RAMP, start=1):
        shares = shares_of(share)
        closed = {STABLE: 0, CANDIDATE: 0}
        wanted = min_units if share < RAMP[-1] else _LAST_STEP_UNITS
        while closed[CANDIDATE] < wanted:
            arm = CANDIDATE if rng.random() < share else STABLE
            closed[arm] += 1
            for name, rail in GUARDRAILS.items():
                rate = rail.rate + (worse[name] if arm == CANDIDATE else 0.0)
                failed = rng.random() < rate
                comparisons[name].add(Outcome(epoch, arm, float(failed)), shares)
                if comparisons[name].above(limits[name], alpha):
                    return True
                if name == "errors" and arm == CANDIDATE:
                    failures.append(failed)
            if hard_stop(failures, _FAILURES_IN_A_ROW):
                return True
    return False


@dataclass(frozen=True, slots=True)
class Harm:
    """A candidate that fails more often by `points`, under a limit, with a share of the traffic."""

    rate: float
    points: int
    share: float = 0.05
    limit: float = 0.0


def units_to_stop(harm: Harm, number: int, most: int) -> int | None:
    """Return how many of the candidate's units were counted when it was stopped; None after `most`."""
    alpha = alpha_each(ALPHA, len(GUARDRAILS)) / 2
    comparison, seen = Comparison(**ARMS), 0
    world = fixed(harm.share, harm.rate, harm.points / 100)
    for unit in world(rng_of("harm", harm, number), most):
        seen += unit.outcome.arm == CANDIDATE
        comparison.add(unit.outcome, unit.shares)
        if comparison.above(harm.limit, alpha):
            return seen
    return None


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference to find at a share: its size, the stable arm's rate."""

    size: float
    rate: float = 0.5
    share: float = 0.5

    @property
    def horizon(self) -> int:
        """How many units a test needs that looks once, for a power of 80 %."""
        return int(fixed_horizon_units(self.size, share=self.share, alpha=ALPHA))


def found_after(effect: Effect, number: int, most: int) -> tuple[int | None, bool]:
    """Return after how many units the product finds the effect; whether a z-test at the horizon does."""
    comparison, once = Comparison(**ARMS), ZTest()
    found: int | None = None
    at_horizon = False
    world = fixed(effect.share, effect.rate, effect.size)
    for place, unit in enumerate(world(rng_of("power", effect, number), most), start=1):
        if found is None:
            comparison.add(unit.outcome, unit.shares)
            found = place if comparison.above(0, ALPHA / 2) else None
        if place <= effect.horizon:
            once.add(unit.outcome)
        if place == effect.horizon:
            at_horizon = once.significant()
        if found is not None and place >= effect.horizon:
            break
    return found, at_horizon


def suspected_after(lost: float, number: int, units: int) -> int | None:
    """Return after how many units the mismatch test speaks when some of the candidate's get lost.

    The candidate has 5 %. The test is asked after every tenth unit.
    """
    rng = rng_of("mismatch", lost, number)
    shares = shares_of(0.05)
    counts = {STABLE: 0, CANDIDATE: 0}
    for place in range(1, units + 1):
        arm = CANDIDATE if rng.random() < 0.05 else STABLE
        if arm == STABLE or rng.random() >= lost:
            counts[arm] += 1
        if place % 10 == 0 and mismatch({1: counts}, {1: shares}, alpha=ALPHA).suspicious:
            return place
    return None


MISSING = {
    "nothing_missing": (0.3, 0.3, 0.3, 0.3),
    "candidates_unhappy_silent": (0.3, 0.3, 0.3, 0.15),
    "candidates_happy_louder": (0.3, 0.3, 0.45, 0.3),
    "stables_happy_silent": (0.15, 0.3, 0.3, 0.3),
}
"""How likely a happy and an unhappy user of the stable arm and of the candidate's are to rate."""


def missing(kind: str, number: int, units: int) -> tuple[bool, bool, bool]:
    """Rate equal arms, half of whose users are happy, looking every 20 units.

    Returns whether the rating rates were ever said to differ, whether the candidate ever counted as better,
    and whether a z-test among raters, looked at as often, ever said so.
    """
    rng = rng_of("missing", kind, number)
    shares = shares_of(0.5)
    comparison, naive = RatingComparison(**ARMS), ZTest()
    differ = won = naive_won = False
    for place in range(1, units + 1):
        arm, happy = rng.choice((STABLE, CANDIDATE)), rng.random() < 0.5
        chance = MISSING[kind][2 * (arm == CANDIDATE) + (not happy)]
        rated = rng.random() < chance
        comparison.add(Rating(1, arm, float(happy) if rated else None), shares)
        if rated:
            naive.add(Outcome(1, arm, float(happy)))
        if place % 20 == 0:
            known = comparison.result(ALPHA)
            differ = differ or known.rates_differ
            won = won or (not known.rates_differ and known.cautious[0] > 0)
            naive_won = naive_won or naive.significant()
    return differ, won, naive_won
