"""Made worlds for `make bench-gate`: how often versions are right on rows, and the gate's verdict on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.figures import Array, Figure, ratio
from training.evaluation.resampling import Resampling
from training.gate.decide import BEST, CHAMPION, NEW, OLD, Decision, Measured, Rule, decide
from training.gate.gaps import Gap, gap_of


@dataclass(frozen=True)
class Rows:
    """A set: its rows, the candidate's true gain on them (a difference of shares), and how often they differ.

    `slices` splits the rows into so many equal parts; `harmed` is the true gain on the first of them, where
    it is another one. Subjects bring `per_subject` rows each, which are answered alike. With `overlap`
    answers are judged by their overlap with the wanted ones, of which a row that differs loses or wins all.
    """

    rows: int
    gain: float = 0.0
    differing: float = 0.15
    slices: int = 1
    harmed: float | None = None
    per_subject: int = 1
    overlap: bool = False


@dataclass(frozen=True)
class World:
    """What a candidate meets. `best` is its true gain over the best version ever, where that is another."""

    new: Rows
    old: Rows
    best: float | None = None
    rule: Rule = field(default_factory=lambda: Rule(min_trusted=0))


def verdicts(world: World, *, runs: int, seed: int) -> Mapping[str, float]:
    """Return how often each verdict is given, as shares of `runs` gatings."""
    generator = np.random.default_rng(seed)
    counts = Counter(judged(world, generator).verdict for _ in range(runs))
    return {verdict: count / runs for verdict, count in counts.items()}


def judged(world: World, generator: np.random.Generator) -> Decision:
    """Draw one gating and return its verdict."""
    sets: dict[str, dict[str, Gap]] = {}
    parts: dict[str, dict[str, Gap]] = {}
    for name, rows in ((NEW, world.new), (OLD, world.old)):
        if not rows.rows:
            continue
        apart = _differences(rows, generator)
        units = np.arange(rows.rows) // rows.per_subject
        sets[name] = {CHAMPION: _gap(apart, units, overlap=rows.overlap)}
        if name == OLD and world.best is not None:
            best = _differences(_against_best(rows, world.best), generator)
            sets[name][BEST] = _gap(best, units, overlap=rows.overlap)
        if rows.slices > 1:
            cuts = np.array_split(np.arange(rows.rows), rows.slices)
            parts[name] = {
                f"part {number}": _gap(apart[cut], units[cut], overlap=rows.overlap)
                for number, cut in enumerate(cuts)
            }
    return decide(Measured(sets, parts), world.rule)


def naive(world: World, *, runs: int, seed: int) -> float:
    """Return how often the plain gate passes: old rows and every slice not inferior by 95 % intervals."""
    generator = np.random.default_rng(seed)
    passed = 0
    for _ in range(runs):
        apart = _differences(world.old, generator)
        cuts = np.array_split(apart, world.old.slices)
        passed += all(_low(part) > -world.rule.margin for part in (apart, *cuts))
    return passed / runs


def _low(apart: Array) -> float:
    return float(apart.mean() - 1.96 * apart.std() / np.sqrt(len(apart)))


def _against_best(rows: Rows, gain: float) -> Rows:
    return Rows(rows.rows, gain, rows.differing, per_subject=rows.per_subject)


def _differences(rows: Rows, generator: np.random.Generator) -> Array:
    """Return for each row 1 where only the candidate is right, -1 where only the other is, else 0."""
    units = -(-rows.rows // rows.per_subject)
    gains = np.full(units, float(rows.gain))
    if rows.harmed is not None:
        gains[: units // rows.slices] = rows.harmed
    differing = np.maximum(rows.differing, np.abs(gains))
    drawn = generator.random(units)
    up = (differing + gains) / 2
    apart = np.where(drawn < up, 1.0, np.where(drawn < differing, -1.0, 0.0))
    return np.repeat(apart, rows.per_subject)[: rows.rows]


def _gap(apart: Array, units: NDArray[np.int64], *, overlap: bool = False) -> Gap:
    ours, theirs = _figure(apart > 0, overlap=overlap), _figure(apart < 0, overlap=overlap)
    grouped = units[-1] + 1 < len(units)
    return gap_of(ours, theirs, Resampling([int(unit) for unit in units] if grouped else len(units), seed=3))


def _figure(right: NDArray[np.bool_], *, overlap: bool = False) -> Figure:
    table = np.stack([right, np.ones(len(right))], axis=1)
    return Figure("token_f1" if overlap else "accuracy", table, ratio, binary=not overlap)
