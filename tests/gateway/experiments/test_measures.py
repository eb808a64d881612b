"""Metrics: what an answer counts for on each of them, and when a unit is closed."""

import pytest

from gateway.core.canary import Slo
from gateway.core.routes import Metric
from gateway.experiments.measures import (
    Measure,
    Said,
    close,
    comparable,
    feedback_measure,
    outcomes,
    rated,
    request_measures,
    signal_measures,
)
from gateway.experiments.ratings import UNRATED
from gateway.experiments.units import expose
from tests.gateway.experiments.made import CANDIDATE, STABLE, answer

EPOCHS = {1: {STABLE: 0.5, CANDIDATE: 0.5}}
SLO = Slo(ttft_ms=1_000, latency_ms=5_000, answer_tokens=100, window_s=60)
THUMBS = feedback_measure("thumbs", Metric(window_h=1))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"errors": 0, "over_latency_slo": 0, "answer_length": 0.1, "cut_by_length": 0}),
        ({"streamed": True, "ttft_ms": 1001.0}, {"over_ttft_slo": 1, "abandoned": 0}),
        ({"streamed": True, "ttft_ms": 1000.0}, {"over_ttft_slo": 0}),
        ({"streamed": True, "latency_ms": 1001.0, "status": 504}, {"over_ttft_slo": 1, "abandoned": None}),
        ({"streamed": True, "status": 499}, {"abandoned": 1, "errors": 0}),
        ({"latency_ms": 5001.0}, {"over_latency_slo": 1}),
        ({"latency_ms": 9e9, "cold": True}, {"over_latency_slo": None, "over_ttft_slo": None, "errors": 0}),
        ({"status": 503, "error_code": "cold_load_timeout"}, {"errors": None}),
        ({"status": 502}, {"errors": 1, "answer_length": None}),
        ({"status": 422}, {"errors": 0}),
        ({"status": 429}, {"errors": 0}),
        ({"adapter": "base"}, {"errors": 1, "answer_length": None}),
        ({"completion_tokens": 400}, {"answer_length": 1}),
        ({"completion_tokens": None}, {"answer_length": None}),
        ({"finish_reason": "length"}, {"cut_by_length": 1}),
        ({"finish_reason": None}, {"cut_by_length": None}),
        ({}, {"schema_validity": None}),
        ({"schema_valid": True}, {"schema_validity": 0}),
        ({"schema_valid": False}, {"schema_validity": 1}),
    ],
)
def test_what_an_answer_counts_for(more: dict[str, object], expected: dict[str, float | None]) -> None:
    """By metric; None where the answer does not count. Another version's answer counts against the arm."""
    measures = {**request_measures(SLO), **signal_measures(SLO)}
    found = {}
    for name in expected:
        score = measures[name].of_answer
        assert score is not None
        found[name] = score(answer(**more))  # type: ignore[arg-type]
    assert found == expected


def test_a_sticky_unit_is_the_mean_of_its_first_minutes() -> None:
    """It closes a window after its first answer; what ends later does not count, whenever it began."""
    answers = [
        answer("q1", unit="u", at=0.0),
        answer("q2", unit="u", at=10.0, status=500),
        answer("late", unit="u", at=59.0, status=500, latency_ms=5_000.0),
    ]
    errors = request_measures(SLO)["errors"]
    assert close(expose(answers, EPOCHS, until=60).units, errors, {}, until=60) == []
    closed = close(expose(answers, EPOCHS, until=1e9).units, errors, {}, until=1e9)
    assert [(one.at, one.value) for one in closed] == [(60.1, 0.5)]


def test_a_unit_that_is_one_request_closes_with_it() -> None:
    """Where only the answer counts there is nothing to wait for; ratings have their window all the same."""
    units = expose([answer()], EPOCHS, until=1).units
    assert request_measures(SLO)["errors"].closes_at(units[0]) == 0.1
    assert THUMBS.closes_at(units[0]) == 3600.1


def test_ratings_of_a_closed_unit_change_nothing() -> None:
    """The last rating of each request within the window counts; the unit's value is their mean."""
    answers = [answer("q1", unit="u"), answer("q2", unit="u", at=5.0), answer("q3", unit="u", at=6.0)]
    said = {
        "q1": [Said("q1", "thumbs", 1.0, 10.0), Said("q1", "thumbs", 0.0, 20.0)],
        "q2": [Said("q2", "thumbs", 1.0, 3600.0), Said("q2", "thumbs", 0.0, 3600.2)],
        "q3": [Said("q3", "thumbs", 0.0, 3601.0)],
    }
    closed = close(expose(answers, EPOCHS, until=1e9).units, THUMBS, said, until=1e9)
    assert [one.value for one in closed] == [0.5]


def test_who_said_nothing_counts_in_between() -> None:
    """An exposed unit without a rating is neither good nor bad, and has no value among raters."""
    closed = close(expose([answer()], EPOCHS, until=1e9).units, THUMBS, {}, until=1e9)
    both = {"stable": STABLE, "candidate": CANDIDATE}
    assert [o.value for o in outcomes(closed, EPOCHS, **both, unrated=THUMBS.unrated)] == [UNRATED]
    assert [r.value for r in rated(closed, EPOCHS, **both)] == [None]


def test_where_answers_are_scored_nothing_said_is_left_out() -> None:
    """A unit whose only request was cold has no outcome on latency, instead of a good or a bad one."""
    units = expose([answer(cold=True)], EPOCHS, until=1e9).units
    assert close(units, request_measures(SLO)["over_latency_slo"], {}, until=1e9) == []


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric(), True),
        (Metric(type="number", range=(1, 5)), True),
        (Metric(type="number"), False),
        (Metric(type="string"), False),
    ],
)
def test_what_arms_are_compared_by(metric: Metric, expected: bool) -> None:
    """Metrics whose values lie between bounds."""
    assert comparable("m", metric) is expected


def test_numbers_are_read_in_their_own_unit() -> None:
    """The smallest difference that matters is a part of the range, and differences are shown in its width."""
    measure = feedback_measure("stars", Metric(type="number", range=(1, 5), min_effect=0.2))
    assert (round(measure.minimum, 9), measure.scale, measure.unit) == (0.05, 4.0, "")
    assert isinstance(measure, Measure)
