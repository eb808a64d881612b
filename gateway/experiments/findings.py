"""What an experiment says at one moment: every metric of every candidate against the stable arm. Pure.

Two families of claims, each with an alpha of its own: verdicts, where one primary metric has most of it and
the others and further candidates share the rest, and guardrails, which share theirs among themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gateway.core.signals import Told, signals
from gateway.experiments.compare import Difference
from gateway.experiments.experiment import ALPHA, Experiment
from gateway.experiments.ledger import Ledger, Tally
from gateway.experiments.measures import Closed, Measure, Said, close, outcomes
from gateway.experiments.mismatch import Mismatch, mismatch
from gateway.experiments.outcomes import Outcome
from gateway.experiments.plan import Plan, plan
from gateway.experiments.ratings import Ratings
from gateway.experiments.units import Answer, Exposed, Unit, expose
from gateway.experiments.verdict import Reading, Verdict, alphas, verdict
from gateway.experiments.watch import Watch, watch

DAY_S = 86_400.0
SETTLED_S = 1_900.0
"""Longer than a request takes with the default limits."""


@dataclass(frozen=True, slots=True)
class Found:
    """One metric of one candidate. `open_units` are exposed and not closed; `ratings`: of feedback only."""

    measure: Measure
    alpha: float
    difference: Difference
    open_units: int = 0
    ratings: Ratings | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate: its metrics, what may be said, and what the primary metric will be able to find."""

    label: str
    metrics: Mapping[str, Found]
    verdict: Verdict
    plan: Plan


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it, as of `until` (seconds since the epoch)."""

    experiment: Experiment
    until: float
    exposed: Exposed
    mismatch: Mismatch
    units_per_day: float
    candidates: Mapping[str, Candidate]
    watch: Watch | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What every candidate is read from."""

    exposed: Exposed
    tallies: Mapping[tuple[str, str], Tally]
    mismatch: Mismatch
    pace: float


def examine(
    experiment: Experiment,
    answers: Sequence[Answer],
    said: Sequence[Said],
    *,
    until: float,
    ledger: Ledger | None = None,
    earlier: Mapping[int, float] = MappingProxyType({}),
    settled_s: float = SETTLED_S,
) -> Findings:
    """Return what the requests that had ended, and the ratings that were given, by `until` say.

    A `ledger` of the same experiment makes it cheaper and changes nothing. `earlier` is `settled` of the last
    look's mismatch; no request takes longer than `settled_s`.
    """
    exposed = expose(answers, experiment.epochs, until=until)
    by_metric = by_request(answers, said, until=until)
    carried = ledger or Ledger()
    tallies = {}
    for name, measure in experiment.measures().items():
        closed = close(exposed.units, measure, by_metric.get(name, {}), until=until)
        for label in experiment.candidates:
            told = [one for one in closed if one.unit.arm in (experiment.stable, label)]
            tallies[name, label] = carried.tally(experiment, measure, label, told)
    unlike = mismatch(
        exposed.counts,
        experiment.epochs,
        alpha=ALPHA,
        settled=exposed.settled(until - settled_s),
        earlier={epoch: p_value for epoch, p_value in earlier.items() if epoch in experiment.epochs},
    )
    seen = _Seen(exposed, tallies, unlike, _pace(exposed.units, until))
    return Findings(
        experiment=experiment,
        until=until,
        exposed=exposed,
        mismatch=unlike,
        units_per_day=seen.pace,
        candidates={label: _candidate(experiment, label, seen) for label in experiment.candidates},
        watch=watch(experiment, exposed, tallies, until=until) if experiment.canary else None,
    )


def _candidate(experiment: Experiment, label: str, seen: _Seen) -> Candidate:
    measures = experiment.measures()
    primary = experiment.primary()
    own, other = alphas(ALPHA, others=len(measures) - 1, candidates=len(experiment.candidates))
    metrics = {
        name: _found(experiment, label, measure, seen, alpha=own if name == primary else other)
        for name, measure in measures.items()
    }
    first = metrics[primary]
    planned = _plan(experiment, label, first, pace=seen.pace)
    reading = Reading(
        candidate=label,
        stable=experiment.stable,
        metric=primary,
        better=first.measure.better,
        minimum=first.measure.minimum,
        difference=first.difference,
        scale=first.measure.scale,
        unit=first.measure.unit,
    )
    said = verdict(
        reading,
        mismatch=seen.mismatch,
        ratings=first.ratings,
        plan=planned,
        sticky=experiment.sticky,
        same_expected=experiment.same_expected,
    )
    return Candidate(label, metrics, said, planned)


def _plan(experiment: Experiment, label: str, first: Found, *, pace: float) -> Plan:
    """Return what the primary metric will be able to find with the present shares."""
    shares = experiment.epochs[max(experiment.epochs)]
    both = shares.get(experiment.stable, 0.0) + shares.get(label, 0.0)
    return plan(
        first.measure.minimum,
        share=shares.get(label, 0.0) / both if both else 0.0,
        units_per_day=pace * both,
        window_days=first.measure.window_s / DAY_S,
        alpha=first.alpha,
        information=first.difference.information,
        variance=first.difference.variance,
    )


def _found(experiment: Experiment, label: str, measure: Measure, seen: _Seen, *, alpha: float) -> Found:
    tally = seen.tallies[measure.name, label]
    if tally.ratings is None:
        return Found(measure, alpha, tally.difference(alpha))
    exposed = sum(unit.arm in (experiment.stable, label) for unit in seen.exposed.units)
    return Found(measure, alpha, tally.difference(alpha), exposed - tally.count, tally.of_ratings(alpha))


def by_request(
    answers: Sequence[Answer], said: Sequence[Said], *, until: float
) -> dict[str, dict[str, list[Said]]]:
    """Return what was said, and whether subjects asked again, by metric and request."""
    found: dict[str, dict[str, list[Said]]] = {}
    for rating in (*said, *_asked_again(answers, until)):
        found.setdefault(rating.metric, {}).setdefault(rating.request_id, []).append(rating)
    return found


def scored(
    experiment: Experiment,
    measure: Measure,
    label: str,
    answers: Sequence[Answer],
    said: Mapping[str, Sequence[Said]],
    *,
    until: float,
) -> list[tuple[Closed, Outcome]]:
    """Return the closed units of one metric with their outcomes, as `compare` counts them, in their order."""
    both = {"stable": experiment.stable, "candidate": label}
    closed = close(expose(answers, experiment.epochs, until=until).units, measure, said, until=until)
    return [
        (one, outcome)
        for one in closed
        for outcome in outcomes([one], experiment.epochs, **both, unrated=measure.unrated)
    ]


def _asked_again(answers: Sequence[Answer], until: float) -> Iterator[Said]:
    """Yield of each answer whether its subject asked again, as far as that is told by `until`."""
    told = (
        Told(
            id=a.id,
            at=a.at,
            route=None,
            adapter=a.adapter,
            arm=a.arm,
            unit=a.unit,
            status=a.status,
            streamed=False,
            finish_reason=None,
            latency_ms=a.latency_ms,
        )
        for a in answers
        if a.unit is not None
    )
    for signal in signals(told, until=until):
        yield Said(signal.request_id, signal.metric, float(signal.value), signal.at)


def _pace(units: Sequence[Unit], until: float) -> float:
    """Return how many units a day were exposed for the first time, over the last day at most."""
    first = [unit.exposed_at for unit in units if not unit.before]
    if len(first) < 2:
        return 0.0
    since = max(min(first), until - DAY_S)
    return sum(at >= since for at in first) / max(until - since, 1.0) * DAY_S
