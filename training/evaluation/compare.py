"""From answers to findings: every figure with its interval, every difference with its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.data.rows import Example
from training.evaluation.calibration import Bin, Calibrated, if_calibrated, reliability, sureness
from training.evaluation.figures import Figure, measure_of
from training.evaluation.judged import OF_TEXTS, Judged, Task, figures_of
from training.evaluation.metrics import METRICS, exact_match
from training.evaluation.paired import discordance, p_value
from training.evaluation.power import MARGIN, Verdict, rows_for_difference, rows_for_error, verdict
from training.evaluation.resampling import Interval, Resampling, difference, interval, standard_error
from training.evaluation.slices import Slice, SliceFigure, SliceGap, figures_in, gaps_in

EXAMPLES = 10
"""So many rows whose answers changed are shown, each way."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One figure of one system."""

    system: str
    metric: str
    here: Interval


@dataclass(frozen=True, slots=True)
class Compared:
    """The candidate minus another system. `rows_needed` find `margin` with 80 % power; None without one."""

    against: str
    metric: str
    gap: Interval
    p_value: float
    verdict: Verdict
    rows_needed: int | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How true a system's probabilities are, beside what a perfectly calibrated one would show."""

    system: str
    error: Interval
    calibrated: Calibrated
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A row on which the candidate is right and the other system wrong, or the other way round."""

    against: str
    now_right: bool
    prompt: str
    wanted: str
    before: str
    after: str
    line: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What an evaluation found. The candidate is the first system."""

    rows: int
    units: int
    margin: float
    primary: str
    metrics: tuple[str, ...]
    systems: tuple[str, ...]
    scores: tuple[Scored, ...]
    differences: tuple[Compared, ...]
    reliability: tuple[Reliability, ...]
    slices: tuple[SliceFigure, ...]
    slice_gaps: tuple[SliceGap, ...]
    changed: tuple[Changed, ...]
    now_right: int
    now_wrong: int

    @property
    def answers(self) -> bool:
        """Whether there were answers to compare, and not texts alone."""
        return self.primary not in OF_TEXTS


def findings(
    judged: Sequence[Judged],
    rows: Sequence[Example],
    task: Task,
    *,
    slices: Sequence[Slice],
    group: str | None,
    margin: float,
    seed: int,
    rival: str,
) -> Findings:
    """Compare the first system with every other one; slices and changed answers are against `rival` too.

    `group` names a field: rows that share its value are drawn together, and a row without it alone.
    """
    resampling = Resampling(groups_of(rows, group), seed=seed)
    figures = {each.system: figures_of(each, task) for each in judged}
    candidate = judged[0].system
    changed = _changed(judged, rows, task, rival)
    others = [each.system for each in judged[1:]]
    metrics = tuple(dict.fromkeys(name for found in figures.values() for name in found))
    return Findings(
        rows=len(rows),
        units=resampling.units,
        margin=margin,
        primary=task.primary,
        metrics=metrics,
        systems=(candidate, *others),
        scores=tuple(
            Scored(system, metric, interval(figure, resampling))
            for system, found in figures.items()
            for metric, figure in found.items()
        ),
        differences=tuple(
            compared(other, figures[candidate][metric], figures[other][metric], resampling, margin=margin)
            for other in others
            for metric in metrics
            if metric in figures[candidate] and metric in figures[other]
        ),
        reliability=tuple(
            _reliability(each, task, figures[each.system]["ece"], resampling, seed)
            for each in judged
            if each.chances is not None
        ),
        slices=tuple(
            each
            for name in _sliced(figures[candidate])
            for each in figures_in(
                slices,
                figures[candidate][name],
                resampling,
                seed=seed,
                beside_rest=name == task.primary,
            )
        ),
        slice_gaps=tuple(
            gaps_in(slices, figures[candidate][task.primary], figures[rival][task.primary], resampling, rival)
        ),
        changed=(*changed[True][:EXAMPLES], *changed[False][:EXAMPLES]),
        now_right=len(changed[True]),
        now_wrong=len(changed[False]),
    )


def compared(
    against: str, ours: Figure, theirs: Figure, resampling: Resampling, *, margin: float = MARGIN
) -> Compared:
    """Return one paired difference with its verdict, and the rows that a difference of `margin` needs."""
    measure = measure_of(ours.metric)
    within = margin if measure.unit == "share" else None
    gap = difference(ours, theirs, resampling)
    return Compared(
        against=against,
        metric=ours.metric,
        gap=gap,
        p_value=p_value(ours, theirs, resampling),
        verdict=verdict(gap.low, gap.high, better=measure.better, margin=within),
        rows_needed=None if within is None else rows_needed(ours, theirs, resampling, margin=within),
    )


def rows_needed(ours: Figure, theirs: Figure, resampling: Resampling, *, margin: float = MARGIN) -> int:
    """Return how many rows like these find a difference of `margin` with 80 % power.

    For successes and failures from the share of rows on which the two differ, times what clusters cost; for
    any other figure from the standard error of the difference.
    """
    error = standard_error(ours, theirs, resampling)
    if not (ours.binary and theirs.binary):
        return rows_for_error(error, resampling.rows, margin)
    plain = rows_for_difference(discordance(ours, theirs).smoothed, margin)
    if resampling.units == resampling.rows:
        return plain
    alone = standard_error(ours, theirs, Resampling(resampling.rows, seed=0))
    return max(plain, round(plain * (error / alone) ** 2)) if alone > 0 else plain


def groups_of(rows: Sequence[Example], group: str | None) -> list[object]:
    """Return for each row what it is drawn with.

    Raises:
        ValueError: no row has the field.
    """
    if group is None:
        return list(range(len(rows)))
    if not any(group in row.columns for row in rows):
        there = sorted({name for row in rows for name in row.columns})
        raise ValueError(
            f"--group {group}: no row has that field; there are {', '.join(there) or 'no others'}"
        )
    return [row.columns.get(group, place) for place, row in enumerate(rows)]


def _sliced(figures: dict[str, Figure]) -> list[str]:
    """Return the metrics that are shown by slice: all but those of single classes."""
    return [name for name in figures if ":" not in name]


def _reliability(each: Judged, task: Task, figure: Figure, resampling: Resampling, seed: int) -> Reliability:
    if each.chances is None:
        raise ValueError(f"{each.system} has no probabilities")
    confidence, right = sureness(each.chances, task.wanted, task.labels)
    return Reliability(
        each.system,
        interval(figure, resampling),
        if_calibrated(confidence, seed=seed),
        tuple(reliability(confidence, right)),
    )


def _changed(
    judged: Sequence[Judged], rows: Sequence[Example], task: Task, rival: str
) -> dict[bool, list[Changed]]:
    """Return the rows that the candidate answers better, and worse: by the main metric where rows have it."""
    metric = METRICS.get(task.primary, exact_match)
    ours = judged[0].draws[0]
    theirs = next(each for each in judged if each.system == rival).draws[0]
    found: dict[bool, list[Changed]] = {True: [], False: []}
    for row, wanted, after, before in zip(rows, task.wanted, ours, theirs, strict=True):
        now, then = metric(after, wanted), metric(before, wanted)
        apart = now.numerator * then.denominator - then.numerator * now.denominator
        if apart:
            changed = Changed(rival, apart > 0, row.messages[-1]["content"], wanted, before, after, row.line)
            found[apart > 0].append(changed)
    return found
