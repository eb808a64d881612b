"""Ratings: quiet while as good as before, an alarm when they fall, and on which inputs."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from monitoring.detector.budget import fleet_budget
from monitoring.detector.feedback import FeedbackEvidence, FeedbackOptions, FeedbackSequence
from monitoring.detector.means import MeanSequence
from monitoring.detector.sample import TooLittle

GOOD = np.array([0.95, 0.9, 0.6, 0.5])  # how many like the answers, by stratum


def _rated(rows: int, seed: int, *, lower: float = 0.0, strata: tuple[int, ...] = (0, 1, 2, 3)) -> tuple:
    random = np.random.default_rng(seed)
    kinds = random.choice(strata, rows)
    return (random.random(rows) < GOOD[kinds] - lower).astype(float), kinds


def _begun(**options: float) -> FeedbackSequence:
    found = FeedbackSequence.begin(*_rated(800, 1), FeedbackOptions(**options))
    assert isinstance(found, FeedbackSequence)
    return found


def _update(sequence: FeedbackSequence, values: np.ndarray, kinds: np.ndarray) -> FeedbackEvidence:
    return sequence.update(values, kinds, 1e9 + np.arange(len(values), dtype=float))


def test_ratings_as_before_are_quiet() -> None:
    """2,000 ratings as good as before do not alarm, and their interval holds the mean."""
    evidence = _update(_begun(), *_rated(2000, 2))
    assert not evidence.alarmed
    assert evidence.cause == "none"
    assert evidence.after is not None
    assert evidence.after.low < GOOD.mean() < evidence.after.high
    assert evidence.before.low < GOOD.mean() < evidence.before.high


def test_worse_ratings_of_the_same_inputs_are_concept_drift() -> None:
    """A fall within all strata after long quiet is found, dated, measured and named."""
    sequence = _begun()
    _update(sequence, *_rated(1500, 3))
    evidence = _update(sequence, *_rated(300, 4, lower=0.3))
    assert evidence.alarmed
    assert evidence.cause == "concept"
    assert evidence.same_inputs is not None
    assert evidence.same_inputs.low < -0.3 < evidence.same_inputs.high
    assert evidence.change_at is not None


def test_harder_inputs_are_not_concept_drift() -> None:
    """When users ask only what was rated badly before, the mean falls and the inputs are to blame."""
    evidence = _update(_begun(), *_rated(800, 5, strata=(2, 3)))
    assert evidence.alarmed
    assert evidence.cause == "feedback"


def test_inputs_unlike_the_reference_say_nothing_of_the_concept() -> None:
    """Bad ratings of rows without a stratum count for the mean alone."""
    sequence = _begun()
    before = _update(sequence, *_rated(50, 6)).log_concept_evidence
    evidence = _update(sequence, np.zeros(200), np.full(200, -1))
    assert evidence.cause == "feedback"
    assert evidence.log_concept_evidence == before


def test_without_strata_the_mean_is_watched() -> None:
    """Ratings whose inputs were not embedded are compared as a whole, and need not be 0 or 1."""
    begun = FeedbackSequence.begin(np.full(200, 0.75), None, FeedbackOptions())
    assert isinstance(begun, FeedbackSequence)
    at = np.arange(300.0)
    assert not begun.update(np.full(300, 0.75), None, at).alarmed
    assert begun.update(np.full(300, 0.25), None, at).cause == "feedback"


def test_a_state_goes_on_and_a_restart_forgets() -> None:
    """Through JSON nothing is lost; a restart keeps the reference and forgets the rest."""
    whole, values = _begun(), _rated(200, 7, lower=0.4)
    again = FeedbackSequence(json.loads(json.dumps(whole.state(), allow_nan=False)))
    expected = _update(whole, *values)
    _update(again, values[0][:90], values[1][:90])
    again = FeedbackSequence(json.loads(json.dumps(again.state(), allow_nan=False)))
    found = _update(again, values[0][90:], values[1][90:])
    assert found.log_evidence == pytest.approx(expected.log_evidence)
    assert found.alarmed
    again.restart()
    assert not again.evidence().alarmed
    assert again.evidence().ratings == 0


def _weeks(days: int, seed: int, *, first: int = 0, lower: float = 0.0) -> tuple:
    """1,200 ratings on weekdays, .90 liked, and 800 on days of the weekend, .80 liked; of four strata."""
    random = np.random.default_rng(seed)
    values, at = [], []
    for day in range(first, first + days):
        ends = day % 7 >= 5
        count = 800 if ends else 1200
        values.append((random.random(count) < (0.8 if ends else 0.9) - lower).astype(float))
        at.append(86_400.0 * day + np.sort(random.random(count)) * 86_400.0)
    whole = np.concatenate(values)
    return whole, random.integers(0, 4, len(whole)), np.concatenate(at)


def _week_begun(**options: float) -> FeedbackSequence:
    values, strata, at = _weeks(8, 11)
    found = FeedbackSequence.begin(values, strata, FeedbackOptions(run_length=290_000.0, **options), at=at)
    assert isinstance(found, FeedbackSequence)
    return found


def test_weekends_are_no_change() -> None:
    """Five weeks whose weekends are as the reference's: quiet; where days count as alike, an alarm."""
    evidence = _week_begun().update(*_weeks(35, 12, first=8))
    assert not evidence.alarmed
    assert _week_begun(day_tolerance=0.0).update(*_weeks(35, 12, first=8)).alarmed
    assert evidence.before.tolerance > 0.06


def test_nights_are_no_change() -> None:
    """Ratings that are worse by 15 points every night: two quiet weeks; an alarm where hours are unknown."""

    def days(count: int, first: int, seed: int) -> tuple:
        random = np.random.default_rng(seed)
        at = 86_400.0 * (first + np.sort(random.random(2000 * count)) * count)
        night = at % 86_400.0 < 6 * 3600
        return (random.random(len(at)) < np.where(night, 0.75, 0.9)).astype(float), None, at

    def alarmed(at_of: Callable[[np.ndarray], np.ndarray]) -> bool:
        values, strata, at = days(8, 0, 21)
        begun = FeedbackSequence.begin(values, strata, FeedbackOptions(run_length=200_000.0), at=at_of(at))
        assert isinstance(begun, FeedbackSequence)
        return begun.update(*days(14, 8, 22)).alarmed

    assert not alarmed(lambda at: at)
    assert alarmed(lambda at: np.floor(at / 86_400.0) * 86_400.0)


def test_a_fall_beyond_what_days_differ_by_is_found() -> None:
    """Ratings that are worse by a quarter on every day of a week alarm, and are named."""
    evidence = _week_begun().update(*_weeks(7, 13, first=8, lower=0.25))
    assert (evidence.alarmed, evidence.cause) == (True, "concept")
    assert evidence.change_at is not None
    assert evidence.change_at < 10 * 86_400.0


def test_days_that_differ_by_chance_alone_widen_nothing() -> None:
    """The tolerance stays the least one in three of four references without any difference between days."""
    widened = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = (random.random(2400) < 0.9).astype(float)
        at = np.repeat(np.arange(8), 300) * 86_400.0
        begun = FeedbackSequence.begin(values, None, FeedbackOptions(), at=at)
        assert isinstance(begun, FeedbackSequence)
        widened += begun.evidence().before.tolerance > 0.03
    assert widened <= 5


def test_a_longer_run_length_takes_more_evidence() -> None:
    """A state goes on at many times the run length that it began with, as when routes are added."""
    sequence = _begun(run_length=1000.0)
    values = _rated(60, 4, lower=0.3)
    state = sequence.state()
    assert _update(FeedbackSequence(state), *values).alarmed
    assert not _update(FeedbackSequence(state, times=1e9), *values).alarmed


def test_a_state_of_before_tolerances_of_days_goes_on() -> None:
    """What was begun without them is read as it was meant."""
    state = json.loads(json.dumps(_begun().state()))
    for name in ("tolerance", "stratum_tolerances"):
        del state["before"][name]
    del state["options"]["day_tolerance"]
    evidence = _update(FeedbackSequence(state), *_rated(300, 4, lower=0.3))
    assert (evidence.cause, evidence.before.tolerance) == ("concept", 0.03)


def test_too_few_ratings_are_an_answer() -> None:
    """Below the least number of ratings there is nothing to compare with."""
    found = FeedbackSequence.begin(np.ones(99), None, FeedbackOptions())
    assert isinstance(found, TooLittle)
    assert found.need_rows == 100


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_ratings_outside_of_the_scale_are_refused(value: float) -> None:
    """Ratings are between 0 and 1; the caller scales them."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        FeedbackSequence.begin(np.array([value] * 200), None, FeedbackOptions())
    with pytest.raises(ValueError, match="between 0 and 1"):
        _begun().update(np.array([value]), None, np.array([0.0]))


def test_another_versions_state_is_refused() -> None:
    """A state of another version can't be read."""
    with pytest.raises(ValueError, match="version"):
        FeedbackSequence({"version": 99})


def test_a_confidence_sequence_holds_at_every_moment() -> None:
    """Of 60 sequences of 400 values, at most one in ten ever loses the mean at 90 %, and all get narrow."""
    random = np.random.default_rng(8)
    lost = 0
    for _ in range(60):
        sequence, ever = MeanSequence(0.9), False
        for value in (random.random(400) < 0.3).tolist():
            sequence.add(float(value))
            found = sequence.interval()
            ever |= not found.low <= 0.3 <= found.high
        lost += ever
        assert found.high - found.low < 0.3
    assert lost <= 6


def test_a_fleet_shares_its_budget() -> None:
    """Run lengths follow the routes' rows, so that the expected false alarms add up to the budget."""
    rows = {"busy": 90_000.0, "calm": 900.0, "dead": 0.0}
    lengths = fleet_budget(0.5, rows)
    assert sum(rows[route] / lengths[route] for route in rows) <= 0.5
    assert lengths["busy"] / lengths["calm"] == pytest.approx(100)
    with pytest.raises(ValueError, match="budget"):
        fleet_budget(0, rows)
