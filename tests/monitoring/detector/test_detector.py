"""The detector: quiet without drift, soon with it, the same across restarts of the process."""

import json
from dataclasses import replace

import numpy as np
import pytest

from monitoring.detector.calibration import Calibration
from monitoring.detector.detector import Detector
from monitoring.detector.sample import DAY_S, Sample
from tests.monitoring.detector.made import SMALL, START, calibrated, sample

LATER = START + 10 * DAY_S


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Return one calibration for all tests: detectors do not change it."""
    return calibrated()


def test_traffic_like_the_reference_does_not_alarm(calibration: Calibration) -> None:
    """5,000 rows like the reference stay below the threshold, by a margin."""
    evidence = Detector(calibration).update(sample(5000, seed=20, start=LATER))
    assert not evidence.alarmed
    assert evidence.log_evidence < evidence.log_threshold - 2
    assert evidence.rows == 5000
    assert not evidence.exhausted


@pytest.mark.parametrize(("shift", "within"), [(0.5, 160), (0.2, 500), (0.1, 2000)])
def test_a_shift_after_long_quiet_is_found(calibration: Calibration, shift: float, within: int) -> None:
    """New kinds of prompts are found, with how many they are at least and about when they began."""
    detector = Detector(calibration)
    detector.update(sample(3000, seed=21, start=LATER))
    began = LATER + 20 * DAY_S
    evidence = detector.update(sample(within, seed=22, shift=shift, start=began, days=1))
    assert evidence.alarmed
    assert evidence.change_at is not None
    assert abs(evidence.change_at - began) < DAY_S * 10
    assert evidence.effect.tolerance < evidence.effect.value <= shift + 0.15
    assert evidence.effect.low <= shift


def test_later_rows_are_as_novel_as_the_reference_was(calibration: Calibration) -> None:
    """Each is compared without one day's prototypes, in turn, as the reference's are without their own."""
    view = calibration.embedding
    assert view is not None
    assert view.in_turn(3, 20).tolist() == view.in_turn(0, 23)[3:].tolist()
    assert set(view.in_turn(5, 8).tolist()) == set(view.prototype_days.tolist())
    later = sample(6000, seed=24, start=LATER)
    inside = view.inside(later.vectors, view.in_turn(0, 6000)).mean(axis=0)
    without = view.inside(later.vectors, np.full(6000, -1)).mean(axis=0)
    assert abs(inside[1] - calibration.regions.found[1]) < 0.015
    assert without[1] < inside[1]


def test_a_number_that_moves_is_found_in_its_own_stream(calibration: Calibration) -> None:
    """Longer prompts with the same meaning raise the number's evidence and not the embeddings'."""
    evidence = Detector(calibration).update(sample(600, seed=23, start=LATER, longer=0.6))
    assert evidence.alarmed
    assert evidence.streams["prompt_chars"].log_evidence > evidence.log_threshold
    assert evidence.streams["embedding"].log_evidence < evidence.log_threshold
    assert evidence.streams["prompt_chars"].region.startswith("above")


def test_a_state_goes_on_where_it_left_off(calibration: Calibration) -> None:
    """Written as JSON and read again in between, a detector says what an uninterrupted one says."""
    parts = [
        sample(200, seed=30 + place, start=LATER + place * DAY_S, shift=0.1, days=1) for place in range(4)
    ]
    whole = Detector(calibration)
    state = None
    for part in parts:
        expected = whole.update(part)
        again = Detector(calibration, None if state is None else json.loads(state))
        found = again.update(part)
        state = json.dumps(again.state(), allow_nan=False)
    assert found.log_evidence == pytest.approx(expected.log_evidence)
    assert found.effect == expected.effect
    assert found.streams == expected.streams
    assert len(state) < 100_000


def test_a_state_of_another_calibration_is_refused(calibration: Calibration) -> None:
    """Evidence against one reference says nothing about another."""
    state = Detector(calibrated(seed=2)).state()
    with pytest.raises(ValueError, match="another calibration"):
        Detector(calibration, state)


def test_an_alarm_stands_until_the_detector_is_restarted(calibration: Calibration) -> None:
    """Traffic that went back to normal leaves the alarm; a restart forgets evidence and alarm."""
    detector = Detector(calibration)
    assert detector.update(sample(400, seed=24, shift=0.5, start=LATER)).alarmed
    assert detector.update(sample(1500, seed=25, start=LATER)).alarmed
    detector.restart()
    assert not detector.evidence().alarmed
    assert not detector.update(sample(500, seed=26, start=LATER)).alarmed


def test_a_reference_is_spent_after_so_many_refreshes() -> None:
    """When its bound is spent nothing more is learned, which is said; fixed regions go on."""
    detector = Detector(calibrated(replace(SMALL, refreshes=3)))
    evidence = detector.update(sample(1000, seed=27, start=LATER))
    assert evidence.exhausted
    assert detector.update(sample(400, seed=28, shift=0.5, start=LATER)).alarmed


def test_nothing_seen_is_no_evidence(calibration: Calibration) -> None:
    """No rows, before or in an update, give evidence of nothing and no change."""
    detector = Detector(calibration)
    empty = sample(0, seed=1)
    for evidence in (detector.evidence(), detector.update(empty)):
        assert not evidence.alarmed
        assert evidence.rows == 0
        assert evidence.change_at is None


def test_absent_columns_and_values_do_no_harm(calibration: Calibration) -> None:
    """A column that is not there is not bet on; values that are absent where they were present are drift."""
    rows = sample(800, seed=29, start=LATER)
    without = Detector(calibration).update(Sample(rows.vectors, {}, rows.at, rows.units))
    assert not without.alarmed
    gone = {"prompt_chars": np.full(800, np.nan)}
    absent = Detector(calibration).update(Sample(rows.vectors, gone, rows.at, rows.units))
    assert absent.alarmed
    assert absent.streams["prompt_chars"].region == "absent"
