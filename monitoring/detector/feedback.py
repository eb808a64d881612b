"""Whether ratings got worse, and whether they got worse on the same inputs (concept drift).

Bets that a rating's loss, 1 - value, has a mean above what the reference's ratings allow, restarted as in
`monitoring.detector.bets`. One sum bets on all ratings; it also rises when users ask for other, harder
things. The others bet within strata of inputs, each against its own stratum's ratings before: they rise only
when the same inputs are rated worse. Ratings of inputs unlike any in the reference (stratum -1) count for the
first alone. Days of the reference differ, as weekends do: by twice their standard deviation beyond chance
ratings may fall without a change, of all and of each stratum.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.bets import SHARES, log_average, restarted
from monitoring.detector.levels import NO_BOUND, chernoff_upper, mean_deviation
from monitoring.detector.means import MeanSequence
from monitoring.detector.sample import Effect, FloatArray, TooLittle
from monitoring.detector.views import UNLIKE

VERSION = 1
_SHARE_OF_RUN = 2
_FEW = 10
_BY_STRATUM = ("stratum_counts", "stratum_means", "stratum_bounds", "stratum_tolerances")


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """`run_length` is in ratings. A fall of up to `tolerance` (of the mean, 0 to 1) is no change.

    Nor is one of up to `day_tolerance` standard deviations between the reference's days, and parts of the
    day, beyond chance.
    """

    run_length: float = 10_000.0
    risk: float = 0.05
    tolerance: float = 0.03
    day_tolerance: float = 2.0
    min_ratings: int = 100
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class FeedbackEvidence:
    """What the ratings say.

    `log_evidence` is of all bets, `log_concept_evidence` of those within strata alone. `before` and `after`
    are means with their intervals; that of `after`, all ratings since the reference, holds at every moment.
    `difference` is after - before since the change seems to have begun, None while there is no sign of one.
    `same_inputs` is that difference among ratings of inputs that the reference knows, each less what its own
    stratum got before. Both intervals are for one look.

    `cause` names an alarm: "concept" when ratings fell on the same inputs, "feedback" when only their mean
    is known to have fallen. It is "concept" by evidence within strata that passes the threshold by itself, or
    else by the interval of `same_inputs`, which makes the name an estimate, without an error rate over time.
    """

    log_evidence: float
    log_concept_evidence: float
    log_threshold: float
    alarmed: bool
    cause: Literal["feedback", "concept", "none"]
    before: Effect
    after: Effect | None
    difference: Effect | None
    same_inputs: Effect | None
    ratings: int
    change_at: float | None


@dataclass(frozen=True, slots=True)
class _Before:
    """The reference's ratings, and bounds on their losses: of all, and by stratum (nan where it has none).

    The tolerances are in the bounds; they were made of what days differ by.
    """

    count: int
    mean: float
    low: float
    high: float
    bound: float
    stratum_counts: FloatArray
    stratum_means: FloatArray
    stratum_bounds: FloatArray
    tolerance: float
    stratum_tolerances: FloatArray


@dataclass(slots=True)
class _Run:
    """The ratings since the evidence was last at zero; `known_*` are of those in strata rated before."""

    by_stratum: list[float]
    evidence: float = 0.0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    known: int = 0
    known_total: float = 0.0
    known_squares: float = 0.0
    began: float | None = None


class FeedbackSequence:
    """Ratings between 0 (worst) and 1 (best) since the reference, against those of the reference."""

    @classmethod
    def begin(
        cls,
        values: FloatArray,
        strata: NDArray[np.int64] | None,
        options: FeedbackOptions,
        *,
        at: FloatArray | None = None,
    ) -> Self | TooLittle:
        """Start from the reference's ratings, each with its input's stratum (of `Calibration.strata`).

        `at` are their times (seconds since the epoch); without them nothing is known of how days differ.

        Raises:
            ValueError: a rating is not between 0 and 1.
        """
        _check(values)
        if len(values) < options.min_ratings:
            reason = f"the reference has {len(values)} ratings; {options.min_ratings} are needed"
            return TooLittle(reason, len(values), 0.0, options.min_ratings, 0.0)
        before = _before(values, strata, options, at)
        state = {
            "version": VERSION,
            "options": asdict(options),
            "before": {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in asdict(before).items()
            },
        }
        return cls(state)

    def __init__(self, state: dict[str, Any], *, times: float = 1.0) -> None:
        """Go on from `state()`. `times` the run length that it began with is wanted now; 1 or more.

        Raises:
            ValueError: it is the state of another version.
        """
        if state.get("version") != VERSION:
            raise ValueError(f"version {state.get('version')} of a feedback state can't be read")
        self._options = FeedbackOptions(**state["options"])
        before = {
            "tolerance": self._options.tolerance,
            "stratum_tolerances": [self._options.tolerance] * len(state["before"]["stratum_means"]),
            **state["before"],
        }
        by_stratum = {
            name: np.array([np.nan if one is None else one for one in before[name]], float)
            for name in _BY_STRATUM
        }
        self._before = _Before(**{**before, **by_stratum})
        self._log_weights = _log_weights(len(self._before.stratum_means))
        self._threshold = float(np.log(times * self._options.run_length / (1 - self._options.risk)))
        sums = state.get("sums")
        shape = (len(self._log_weights), len(SHARES))
        self._sums: FloatArray = (
            np.full(shape, -np.inf)
            if sums is None
            else np.array([[-np.inf if one is None else one for one in row] for row in sums], float)
        )
        self._peak = float(state["peak"]) if state.get("peak") is not None else -np.inf
        self._concept = bool(state.get("concept", False))
        after = state.get("after")
        self._after = MeanSequence(self._options.confidence) if after is None else MeanSequence(**after)
        self._run = _Run(**state["run"]) if "run" in state else self._fresh_run(None)

    def update(
        self, values: FloatArray, strata: NDArray[np.int64] | None, at: FloatArray
    ) -> FeedbackEvidence:
        """Take the next ratings, oldest first, at most one a subject and day.

        Raises:
            ValueError: a rating is not between 0 and 1.
        """
        _check(values)
        places = np.full(len(values), UNLIKE) if strata is None else strata
        for value, stratum, moment in zip(values.tolist(), places.tolist(), at.tolist(), strict=True):
            self._bet(value, stratum, moment)
            self._after.add(value)
        return self.evidence()

    def evidence(self) -> FeedbackEvidence:
        """Return where things stand."""
        alarmed = self._peak >= self._threshold
        before = self._before
        after = self._after.interval()
        long_enough = self._run.count >= _FEW and self._run.evidence > 0
        same = self._same_inputs() if long_enough and self._run.known >= _FEW else None
        fell = self._concept or (same is not None and same.high < -same.tolerance)
        return FeedbackEvidence(
            log_evidence=log_average(self._sums, self._log_weights),
            log_concept_evidence=self._concept_evidence(),
            log_threshold=self._threshold,
            alarmed=alarmed,
            cause="none" if not alarmed else "concept" if fell else "feedback",
            before=Effect(before.mean, before.low, before.high, before.tolerance),
            after=Effect(after.value, after.low, after.high, before.tolerance) if self._after.count else None,
            difference=self._difference() if long_enough else None,
            same_inputs=same,
            ratings=self._after.count,
            change_at=self._run.began if long_enough else None,
        )

    def restart(self) -> None:
        """Forget the evidence since the reference."""
        self._sums[:] = -np.inf
        self._peak = -np.inf
        self._concept = False
        self._after = MeanSequence(self._options.confidence)
        self._run = self._fresh_run(None)

    def state(self) -> dict[str, Any]:
        """Return the state as JSON."""
        before = asdict(self._before)
        for name in _BY_STRATUM:
            before[name] = [None if np.isnan(one) else one for one in before[name].tolist()]
        return {
            "version": VERSION,
            "options": asdict(self._options),
            "before": before,
            "sums": [[None if np.isinf(one) else one for one in row] for row in self._sums.tolist()],
            "peak": None if np.isinf(self._peak) else self._peak,
            "concept": self._concept,
            "after": self._after.document(),
            "run": asdict(self._run),
        }

    def _bet(self, value: float, stratum: int, at: float) -> None:
        """Bet on one rating: in all ratings, in all strata together, and in its own stratum."""
        before, loss = self._before, 1 - value
        known = 0 <= stratum < len(before.stratum_means) and not np.isnan(before.stratum_means[stratum])
        bound = np.full(len(self._sums), before.bound)
        present = np.zeros(len(self._sums))
        present[0] = 1
        if known:
            bound[[1, 2 + stratum]] = before.stratum_bounds[stratum]
            present[[1, 2 + stratum]] = 1
        gain = _gains(bound, loss) * present[:, None]
        self._sums = restarted(self._sums, present) + gain
        self._peak = max(self._peak, log_average(self._sums, self._log_weights))
        self._concept |= self._concept_evidence() >= self._threshold
        run = self._run
        if run.evidence <= 0:
            run = self._run = self._fresh_run(at)
        run.evidence = max(run.evidence, 0.0) + float(gain[1 if known else 0, _SHARE_OF_RUN])
        run.count += 1
        run.total += value
        run.squares += value * value
        if known:
            apart = value - float(before.stratum_means[stratum])
            run.known += 1
            run.known_total += apart
            run.known_squares += apart * apart
            run.by_stratum[stratum] += 1

    def _fresh_run(self, at: float | None) -> _Run:
        return _Run(by_stratum=[0.0] * len(self._before.stratum_means), began=at)

    def _concept_evidence(self) -> float:
        if len(self._sums) < 2:
            return -np.inf
        return log_average(self._sums[1:], self._log_weights[1:] + np.log(2))

    def _difference(self) -> Effect:
        """Return how much the run's mean is above that before."""
        run, before = self._run, self._before
        error = before.mean * (1 - before.mean) / before.count
        found = self._normal(run.total, run.squares, run.count, error, before.tolerance)
        return Effect(
            found.value - before.mean, found.low - before.mean, found.high - before.mean, found.tolerance
        )

    def _same_inputs(self) -> Effect:
        """Return the mean of the run's differences within strata."""
        run, before = self._run, self._before
        some = np.array(run.by_stratum) > 0
        shares = np.array(run.by_stratum)[some] / run.known
        means = before.stratum_means[some]
        # A stratum whose few ratings agree is not known without error.
        spread = np.maximum(means * (1 - means), 0.25 / before.stratum_counts[some])
        error = float((shares**2 * spread / before.stratum_counts[some]).sum())
        tolerance = float((shares * before.stratum_tolerances[some]).sum())
        return self._normal(run.known_total, run.known_squares, run.known, error, tolerance)

    def _normal(self, total: float, squares: float, count: int, error: float, tolerance: float) -> Effect:
        """Return a mean with a normal interval for one look, widened by the variance `error`."""
        mean = total / count
        variance = max(squares / count - mean * mean, 0.25 / count) * count / max(1, count - 1)
        half = NormalDist().inv_cdf(0.5 + self._options.confidence / 2) * (variance / count + error) ** 0.5
        return Effect(mean, mean - half, mean + half, tolerance)


def _check(values: FloatArray) -> None:
    if len(values) and not (values.min() >= 0 and values.max() <= 1):  # also refuses nan
        raise ValueError("ratings must be between 0 and 1")


def _before(
    values: FloatArray,
    strata: NDArray[np.int64] | None,
    options: FeedbackOptions,
    at: FloatArray | None,
) -> _Before:
    """Return the reference's means and the bounds on losses that share `risk`."""
    at = np.zeros(len(values)) if at is None else at
    kinds = int(strata.max()) + 1 if strata is not None and len(strata) else 0
    log_chance = float(np.log((1 + kinds) / options.risk))

    def tolerance(some: NDArray[np.bool_]) -> float:
        return max(options.tolerance, options.day_tolerance * mean_deviation(values[some], at[some]))

    def bound(mean: float, count: int, tolerated: float) -> float:
        upper = float(chernoff_upper(np.array([1 - mean]), count, log_chance)[0])
        return min(upper + tolerated, NO_BOUND)

    counts = np.zeros(kinds)
    means, bounds, tolerances = np.full(kinds, np.nan), np.full(kinds, np.nan), np.full(kinds, np.nan)
    for kind in range(kinds):
        mine = values[strata == kind]
        counts[kind] = len(mine)
        if len(mine):
            tolerances[kind] = tolerance(np.asarray(strata == kind))
            means[kind] = mine.mean()
            bounds[kind] = bound(float(mine.mean()), len(mine), tolerances[kind])
    mean, count = float(values.mean()), len(values)
    overall = tolerance(np.ones(count, bool))
    both = float(np.log(2 / (1 - options.confidence)))
    return _Before(
        count,
        mean,
        1 - float(chernoff_upper(np.array([1 - mean]), count, both)[0]),
        float(chernoff_upper(np.array([mean]), count, both)[0]),
        bound(mean, count, overall),
        counts,
        means,
        bounds,
        overall,
        tolerances,
    )


def _log_weights(kinds: int) -> FloatArray:
    """Return weights of the sums: half for all ratings, half within strata (a half of that for each)."""
    parts = [1.0] if not kinds else [0.5, 0.25, *[0.25 / kinds] * kinds]
    return np.log(np.array(parts) / len(SHARES))[:, None]


def _gains(bound: FloatArray, loss: float) -> FloatArray:
    """Return log(1 + bet * (loss - bound)), the likelihood ratio of `bets.odds` where the loss is 0 or 1."""
    null = bound[:, None]
    bet = SHARES / null
    result: FloatArray = np.log1p(bet * (loss - null))
    return result
