"""What a canary is watched by: its guardrails, how many of its units are closed, and its hard stop. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.canary import ERRORS, TWO_SIDED, Canary
from gateway.experiments.compare import Difference
from gateway.experiments.experiment import ALPHA, Experiment
from gateway.experiments.guardrails import alpha_each, breached, hard_stop, sides_of
from gateway.experiments.ledger import Tally
from gateway.experiments.measures import Measure, failed
from gateway.experiments.units import Answer, Exposed, Unit


@dataclass(frozen=True, slots=True)
class Guarded:
    """One guardrail. `low` and `high` of the difference are the bounds that it is judged by.

    `leaning`: the estimate is over the limit. `proven`: the difference is below it for certain.
    """

    measure: Measure
    limit: float
    alpha: float
    difference: Difference
    breached: bool
    leaning: bool
    proven: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """What a canary is decided by. `step_units`: the candidate's that are closed on every guardrail."""

    guardrails: Mapping[str, Guarded]
    step_units: int
    hard_stop: bool


def watch(
    experiment: Experiment, exposed: Exposed, tallies: Mapping[tuple[str, str], Tally], *, until: float
) -> Watch:
    """Return what the canary of an experiment is decided by, from units that are closed on each metric."""
    canary = experiment.canary
    assert canary is not None  # noqa: S101 - the caller looked
    measures = experiment.measures()
    names = [name for name in canary.guardrails if name in measures]
    alpha = alpha_each(ALPHA, sides_of(names))
    guardrails = {
        name: _guarded(
            measures[name], tallies[name, canary.candidate].difference(alpha), canary.guardrails[name], alpha
        )
        for name in names
    }
    waits = [measures[name] for name in names] or [measures[ERRORS]]
    step_units = sum(
        unit.arm == canary.candidate
        and unit.epoch > experiment.step_after_generation
        and all(measure.closes_at(unit) <= until for measure in waits)
        for unit in exposed.units
    )
    return Watch(guardrails, step_units, _hard_stop(canary, exposed, experiment.stable))


def _guarded(measure: Measure, difference: Difference, limit: float, alpha: float) -> Guarded:
    either_way = measure.name in TWO_SIDED  # much shorter answers are as suspect as much longer ones
    worse = _worse(difference, measure, either_way=either_way)
    return Guarded(
        measure=measure,
        limit=limit,
        alpha=alpha,
        difference=difference,
        breached=breached(difference, limit, better=measure.better)
        or (either_way and breached(difference, limit, better="higher")),
        leaning=worse[0] is None or worse[0] > limit,
        proven=worse[1] < limit,
    )


def _worse(difference: Difference, measure: Measure, *, either_way: bool) -> tuple[float | None, float]:
    """Return by how much the candidate is worse: the estimate, and the most that it can be."""
    estimate, low, high = difference.estimate, difference.low, difference.high
    if either_way:
        return (None if estimate is None else abs(estimate)), max(-low, high)
    if measure.better == "higher":
        return (None if estimate is None else -estimate), -low
    return estimate, high


def _hard_stop(canary: Canary, exposed: Exposed, stable: str) -> bool:
    """Whether the candidate's newest requests all failed while the stable arm's, in that time, did not."""
    theirs = _answers_of(exposed.units, canary.candidate)[-canary.failures_in_a_row :]
    if not hard_stop((failed(answer) for answer in theirs), canary.failures_in_a_row):
        return False
    since = theirs[0].ended_at
    beside = [answer for answer in _answers_of(exposed.units, stable) if answer.ended_at >= since]
    return not beside or not all(failed(answer) for answer in beside)


def _answers_of(units: Sequence[Unit], arm: str) -> list[Answer]:
    every = [answer for unit in units if unit.arm == arm for answer in unit.answers]
    return sorted(every, key=lambda answer: (answer.ended_at, answer.id))
