"""What a unit's outcome is on each metric, and when it is closed.

A unit's outcome on a metric is closed a window after the unit was exposed. What comes later is kept and
shown, and changes nothing. Values lie in [0, 1].
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.core.canary import ERRORS, LENGTH, OVER_LATENCY, OVER_TTFT, SCHEMA, Slo
from gateway.core.routes import Metric
from gateway.core.signals import ABANDONED, AGAIN_WITHIN_S, ASKED_AGAIN, CUT_BY_LENGTH, IMPLICIT
from gateway.experiments.outcomes import Epochs, Outcome
from gateway.experiments.ratings import UNRATED, Rating
from gateway.experiments.units import Answer, Unit

_GONE = 499

COLD_ERRORS = frozenset({"cold_load_timeout", "cold_load_failed"})
"""What became of requests whose version was not loaded in time: that says where it stood, not what it is."""


class Said(NamedTuple):
    """One rating of one request, scaled to [0, 1]. `at`: seconds since the epoch."""

    request_id: str
    metric: str
    value: float
    at: float


MINIMUM = 0.05
"""The smallest difference that matters where a metric does not say: five points, or a part of its range."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric as units are scored by it.

    Either `of_answer` scores each answer (None: it does not count), or ratings of answers do. Units that have
    neither are left out, except where `unrated` is what they count as.
    A unit is open for `window_s`. One that is a single request closes with its answer where only the answer
    counts, since nothing can follow. `scale` turns a difference into what people read, in `unit`.
    """

    name: str
    window_s: float
    better: Literal["higher", "lower"] = "lower"
    minimum: float = MINIMUM
    of_answer: Callable[[Answer], float | None] | None = None
    unrated: float | None = None
    scale: float = 100.0
    unit: str = "points"

    def closes_at(self, unit: Unit) -> float:
        """Return when the unit's outcome is closed, in seconds since the epoch."""
        if self.of_answer is not None and not unit.sticky:
            return unit.exposed_at
        return unit.exposed_at + self.window_s


class Closed(NamedTuple):
    """One closed unit. `value` is None when nothing was said of it."""

    at: float
    unit: Unit
    value: float | None


def request_measures(slo: Slo) -> dict[str, Measure]:
    """Return the metrics that are read off recorded requests, by name."""

    def over_ttft(answer: Answer) -> float | None:
        if answer.cold or not answer.streamed:
            return None
        waited = answer.ttft_ms if answer.ttft_ms is not None else answer.latency_ms
        return float(waited > slo.ttft_ms)

    def over_latency(answer: Answer) -> float | None:
        return None if answer.cold else float(answer.latency_ms > slo.latency_ms)

    def length(answer: Answer) -> float | None:
        if failed(answer) or answer.completion_tokens is None:
            return None
        return min(1.0, answer.completion_tokens / slo.answer_tokens)

    def errors(answer: Answer) -> float | None:
        return None if answer.error_code in COLD_ERRORS else float(failed(answer))

    def unlike_schema(answer: Answer) -> float | None:
        return None if answer.schema_valid is None else float(not answer.schema_valid)

    scores = {
        ERRORS: errors,
        OVER_TTFT: over_ttft,
        OVER_LATENCY: over_latency,
        LENGTH: length,
        SCHEMA: unlike_schema,
    }
    return {name: Measure(name, slo.window_s, of_answer=score) for name, score in scores.items()}


def signal_measures(slo: Slo) -> dict[str, Measure]:
    """Return the implicit signals by name: see gateway.core.signals."""

    def abandoned(answer: Answer) -> float | None:
        return float(answer.status == _GONE) if answer.streamed and answer.status in (200, _GONE) else None

    def cut(answer: Answer) -> float | None:
        return None if answer.finish_reason is None else float(answer.finish_reason == "length")

    return {
        ASKED_AGAIN: Measure(ASKED_AGAIN, slo.window_s + AGAIN_WITHIN_S),
        ABANDONED: Measure(ABANDONED, slo.window_s, of_answer=abandoned),
        CUT_BY_LENGTH: Measure(CUT_BY_LENGTH, slo.window_s, of_answer=cut),
    }


def feedback_measure(name: str, metric: Metric) -> Measure:
    """Return a metric of the feedback."""
    number = metric.type == "number"
    return Measure(
        name,
        metric.window_h * 3600,
        better=metric.better,
        minimum=MINIMUM if metric.min_effect is None else metric.min_effect / metric.span,
        unrated=UNRATED,
        scale=metric.span if number else 100.0,
        unit="" if number else "points",
    )


def comparable(name: str, metric: Metric) -> bool:
    """Whether arms are compared by a declared metric: its values lie between bounds."""
    return name not in IMPLICIT and metric.type != "string" and math.isfinite(metric.span)


def failed(answer: Answer) -> bool:
    """Whether an answer counts against its arm: an error of the service, or another version's answer."""
    return answer.status >= 500 or answer.adapter not in ("", answer.arm)


def close(
    units: Iterable[Unit], measure: Measure, said: Mapping[str, Sequence[Said]], *, until: float
) -> list[Closed]:
    """Return the units that are closed by `until`, in the order of closing.

    `said` holds this metric's ratings by request. Of several ratings of one request the last one counts.
    """
    found = []
    for unit in units:
        at = measure.closes_at(unit)
        if at > until:
            continue
        value = _of_answers(unit, measure, at) if measure.of_answer else _of_ratings(unit, said, at)
        if value is not None or measure.unrated is not None:
            found.append(Closed(at, unit, value))
    return sorted(found, key=lambda closed: closed.at)


def outcomes(
    closed: Iterable[Closed], epochs: Epochs, *, stable: str, candidate: str, unrated: float | None
) -> list[Outcome]:
    """Return the outcome of each exposed unit of two arms; `unrated` is that of one that rated nothing."""
    return [
        Outcome(one.epoch, one.arm, value, one.chances)
        for one in rated(closed, epochs, stable=stable, candidate=candidate)
        if (value := unrated if one.value is None else one.value) is not None
    ]


def rated(closed: Iterable[Closed], epochs: Epochs, *, stable: str, candidate: str) -> list[Rating]:
    """Return the same for the secondary analysis, where a unit that rated nothing has no value."""
    found = []
    for one in closed:
        chances = one.unit.chances(epochs, stable=stable, candidate=candidate)
        if chances is not None and one.unit.arm in (stable, candidate):
            found.append(Rating(one.unit.epoch, one.unit.arm, one.value, chances))
    return found


def _of_answers(unit: Unit, measure: Measure, until: float) -> float | None:
    score = measure.of_answer
    assert score is not None  # noqa: S101 - the caller looked
    values = [value for answer in unit.answered(until) if (value := score(answer)) is not None]
    return sum(values) / len(values) if values else None


def _of_ratings(unit: Unit, said: Mapping[str, Sequence[Said]], until: float) -> float | None:
    last = [
        max(in_time, key=lambda rating: rating.at).value
        for answer in unit.answers
        if (in_time := [rating for rating in said.get(answer.id, ()) if rating.at <= until])
    ]
    return sum(last) / len(last) if last else None
