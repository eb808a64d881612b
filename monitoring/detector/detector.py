"""The sequential change detector: streams of bets, averaged, restarted, against one threshold.

`docs/drift-statistics.md` has the method, what is guaranteed and what was measured.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.detector.bets import SHARES, Odds, gains, log_average, odds, restarted
from monitoring.detector.calibration import LEARNED_SHARE, Calibration
from monitoring.detector.learning import COUNT, SCALES, TAILS, Learner
from monitoring.detector.runs import Runs
from monitoring.detector.sample import EMBEDDING, Effect, Evidence, FloatArray, Sample, StreamEvidence

VERSION = 1
_BLOCK_ROWS = 20
_AT_ONCE = 2000
_SHARE_OF_RUNS = 2  # the bet that runs follow, of bets.SHARES
_CONFIDENCE = 0.95
_NOTHING = Effect(0.0, -1.0, 1.0, 0.0)


class Detector:
    """Adds up evidence against "as in the reference" and says when it is enough.

    Memory does not grow with the rows: hand long traffic over in parts, oldest first.
    """

    def __init__(
        self, calibration: Calibration, state: dict[str, Any] | None = None, *, times: float = 1.0
    ) -> None:
        """Begin anew, or where `state` (of `state()`, with the same calibration) left off.

        `times` the calibration's run length is wanted now; 1 or more, since a longer one keeps the bound.

        Raises:
            ValueError: the state belongs to another calibration.
        """
        self._calibration = calibration
        fixed = calibration.regions
        learned = COUNT if calibration.embedding is not None else 0
        self._names = [*fixed.name, *_learned_names()[:learned]]
        self._streams = np.array([*fixed.stream, *[EMBEDDING] * learned])
        share = LEARNED_SHARE * calibration.embedding_weight / COUNT
        weights = np.concatenate([fixed.weight, np.full(learned, share)])
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(weights / weights.sum() / len(SHARES))[:, None]
        effect = calibration.reference.design_effect
        self._design_effect = np.concatenate([fixed.design_effect, np.full(learned, effect)])
        self._level_rows = np.concatenate(
            [fixed.level_rows, np.full(learned, float(calibration.reference.level_count))]
        )
        self._threshold = float(
            np.log(times * calibration.options.run_length / (1 - calibration.options.risk))
        )
        self._rows = 0
        self._peak = -np.inf
        self._sums: FloatArray = np.full((len(self._names), len(SHARES)), -np.inf)
        self._runs = Runs.fresh(len(self._names))
        self._learner = Learner.fresh(calibration.coordinates.shape[1])
        if state is not None:
            self._load(state)
        self._fixed_odds = odds(fixed.bound)
        self._odds, self._found, self._bound = self._all_regions()

    def update(self, sample: Sample) -> Evidence:
        """Take the next rows, none of which was seen before, and return where things stand."""
        for start in range(0, len(sample), _AT_ONCE):
            self._take(sample, slice(start, min(start + _AT_ONCE, len(sample))))
        return self.evidence()

    def evidence(self) -> Evidence:
        """Return where things stand."""
        total = self._sums + self._log_weights
        leading = int(total.max(axis=1).argmax()) if len(total) else 0
        streams = {name: self._stream(name) for name in self._calibration.streams}
        began = self._runs.began[leading] if self._runs.long_enough(leading) else np.nan
        return Evidence(
            log_evidence=log_average(self._sums, self._log_weights),
            log_threshold=self._threshold,
            alarmed=self._peak >= self._threshold,
            effect=self._effect(leading),
            rows=self._rows,
            streams=streams,
            change_at=None if np.isnan(began) else float(began),
            exhausted=self._learner.refreshes >= self._calibration.options.refreshes,
        )

    def restart(self) -> None:
        """Forget the evidence, after an alarm was acted on or dismissed; the reference stays."""
        self._peak = -np.inf
        self._sums[:] = -np.inf
        self._runs = Runs.fresh(len(self._names))

    def state(self) -> dict[str, Any]:
        """Return the state as JSON, some tens of kilobytes."""
        sums = [[None if np.isinf(one) else one for one in row] for row in self._sums.tolist()]
        return {
            "version": VERSION,
            "calibration": self._calibration.fingerprint,
            "rows": self._rows,
            "peak": None if np.isinf(self._peak) else self._peak,
            "sums": sums,
            "runs": self._runs.document(),
            "learner": self._learner.document(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state.get("version") != VERSION or state.get("calibration") != self._calibration.fingerprint:
            raise ValueError("this state belongs to another calibration, or to another version")
        self._rows = int(state["rows"])
        self._peak = -np.inf if state["peak"] is None else float(state["peak"])
        sums = [[-np.inf if one is None else one for one in row] for row in state["sums"]]
        self._sums = np.array(sums, dtype=np.float64).reshape(self._sums.shape)
        self._runs = Runs.from_document(state["runs"])
        self._learner = Learner.from_document(state["learner"])

    def _take(self, sample: Sample, rows: slice) -> None:
        """Bet on a part's rows, block by block, each with what was learned before it."""
        inside, present, coordinates = self._placed(sample, rows)
        starts = np.arange(0, len(inside), _BLOCK_ROWS)
        counts = np.add.reduceat(inside, starts, axis=0, dtype=np.float64)
        possible = np.add.reduceat(present, starts, axis=0, dtype=np.float64)
        for place, start in enumerate(starts):
            block = coordinates[start : start + _BLOCK_ROWS]
            self._bet(counts[place], possible[place], block, at=float(sample.at[rows.start + start]))

    def _bet(
        self, inside: FloatArray, present: FloatArray, coordinates: NDArray[np.float32], *, at: float
    ) -> None:
        """Bet on one block, then learn from it."""
        learns = self._calibration.embedding is not None
        if learns:
            inside = np.concatenate([inside, self._learner.inside(coordinates)])
            present = np.concatenate([present, len(coordinates) * self._learner.ready])
        inside = np.where(present > 0, inside, 0.0)
        gain = gains(self._odds, inside, present, design_effect=self._design_effect)
        self._sums = restarted(self._sums, present) + gain
        self._peak = max(self._peak, log_average(self._sums, self._log_weights))
        self._runs.add(
            gain[:, _SHARE_OF_RUNS],
            inside=inside,
            present=present,
            found=self._found,
            bound=self._bound,
            at=at,
        )
        self._rows += len(coordinates)
        if learns and self._learner.learn(coordinates, self._calibration):
            self._odds, self._found, self._bound = self._all_regions()

    def _placed(
        self, sample: Sample, rows: slice
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
        """Return which fixed regions a part's rows are in, which they could be in, and where they lie."""
        calibration, count = self._calibration, rows.stop - rows.start
        inside = np.zeros((count, len(calibration.regions)), dtype=np.bool_)
        present = np.zeros_like(inside)
        coordinates = np.zeros((count, 0), dtype=np.float32)
        place = 0
        if calibration.embedding is not None:
            vectors = sample.vectors[rows]
            place = len(calibration.embedding.names)
            days = calibration.embedding.in_turn(self._rows, count)
            inside[:, :place] = calibration.embedding.inside(vectors, days)
            present[:, :place] = True
            coordinates = calibration.embedding.coordinates(vectors)
        for name, view in calibration.numbers.items():
            end = place + len(view.names)
            if name in sample.numbers:
                values = sample.numbers[name][rows]
                inside[:, place:end] = view.inside(values)
                present[:, place : end - 1] = np.isfinite(values)[:, None]
                present[:, end - 1] = True
            place = end
        present &= calibration.regions.level_rows > 0
        return inside, present, coordinates

    def _all_regions(self) -> tuple[Odds, FloatArray, FloatArray]:
        """Return the odds, levels and bounds of fixed and learned regions."""
        fixed = self._calibration.regions
        if self._calibration.embedding is None:
            return self._fixed_odds, fixed.found, fixed.bound
        learned = odds(self._learner.bound.ravel())
        together = Odds(
            np.concatenate([self._fixed_odds.inside, learned.inside]),
            np.concatenate([self._fixed_odds.outside, learned.outside]),
        )
        found = np.concatenate([fixed.found, self._learner.found.ravel()])
        return together, found, np.concatenate([fixed.bound, self._learner.bound.ravel()])

    def _stream(self, name: str) -> StreamEvidence:
        mine = np.flatnonzero(self._streams == name)
        weights = self._log_weights[mine]
        share = np.exp(weights).sum() * len(SHARES)
        leading = int(mine[(self._sums[mine] + weights).max(axis=1).argmax()])
        evidence = log_average(self._sums[mine], weights - np.log(share))
        return StreamEvidence(evidence, self._effect(leading), self._names[leading])

    def _effect(self, region: int) -> Effect:
        if not self._rows:
            return _NOTHING
        regions = len(self._names)  # the leading one of all of them is looked at
        return self._runs.effect(
            region,
            level_rows=float(self._level_rows[region]),
            design_effect=float(self._design_effect[region]),
            z=NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / 2 / regions),
        )


def _learned_names() -> list[str]:
    return [f"learned over {scale} rows, beyond {tail:.0%}" for scale in SCALES for tail in TAILS]
