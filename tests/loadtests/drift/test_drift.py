"""`make bench-drift`: its traffic is what it claims to be, and its figures follow from its runs."""

from itertools import islice

import numpy as np
import pytest

from loadtests.drift.run import FULL, SEEDS, SHIFTS, WITHIN, beside_of, missed, shares
from loadtests.drift.studies import Found, found_in
from loadtests.drift.texts import Pair, Rows
from loadtests.drift.tuning import SETTINGS, SHIFT_SEEDS, YEAR_SEEDS, Row, choose
from loadtests.drift.worlds import WORLDS, Traffic
from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.sample import DAY_S, DetectorOptions


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Return made vectors in place of embedded texts; the length of a text tells which kind it is."""
    random = np.random.default_rng(1)

    def rows(count: int, kind: int) -> Rows:
        vectors = random.normal(size=(count, 8))
        vectors[:, 0] += 4 * kind
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Rows(vectors.astype(np.float32), np.full(count, float(kind)))

    return Pair(rows(5200, 0), rows(300, 1))


@pytest.mark.parametrize("world", WORLDS)
def test_a_burn_in_carries_a_calibration(pair: Pair, world: str) -> None:
    """Eight days of any world are enough rows over enough days, at most one a subject and day."""
    reference = Traffic(pair, WORLDS[world], 1).reference()
    options = DetectorOptions()
    assert len(reference) >= options.min_rows
    assert reference.at[-1] - reference.at[0] >= options.min_days * DAY_S
    known = [
        (unit, at // DAY_S)
        for unit, at in zip(reference.units, reference.at.tolist(), strict=True)
        if unit is not None
    ]
    assert len(known) == len(set(known)) == (0 if world == "no_subjects" else len(reference))


def test_later_traffic_shares_no_text_with_the_reference(pair: Pair) -> None:
    """What the detector is calibrated on never comes back, and a shift is as large as asked for."""
    traffic = Traffic(pair, WORLDS["weekly"], 2)
    reference = {row.tobytes() for row in traffic.reference().vectors}
    later = [row.tobytes() for day in islice(traffic.days(), 3) for row in day.vectors]
    assert not reference & set(later)
    shifted = np.concatenate([day.numbers["prompt_chars"] for day in islice(traffic.days(shift=0.2), 10)])
    assert 0.17 < shifted.mean() < 0.23


def test_rows_of_a_session_resemble_each_other(pair: Pair) -> None:
    """Where subjects are unknown, neighbours in time are neighbours in meaning."""
    alike = {}
    for world in ("weekly", "no_subjects"):
        rows = Traffic(pair, WORLDS[world], 3).reference().vectors
        alike[world] = float((rows[1:] * rows[:-1]).sum(axis=1).mean())
    assert alike["no_subjects"] > alike["weekly"] + 0.3


def test_a_shift_is_looked_for_until_it_is_found(pair: Pair) -> None:
    """A large shift is found at a look soon after it began; what is found later counts as later."""
    traffic = Traffic(pair, WORLDS["independent"], 4)
    calibration = calibrate(traffic.reference(), DetectorOptions(run_length=1e4))
    assert isinstance(calibration, Calibration)
    [result] = found_in([calibration], [None], traffic, 0.5)
    assert result.after is not None
    assert result.after <= 200
    assert result.effect_low <= 0.5


def test_shares_and_missed_goals_follow_from_the_runs() -> None:
    """Runs that found nothing in time lower the share, and a goal that is missed is said in words."""
    one = Found(400, 0, 5000, 0.2, 0.1, 0.3, 10)
    late = Found(None, 0, 5000, 0.2, 0.1, 0.3, None)
    runs = [dict.fromkeys(SHIFTS, one)] * 3 + [dict.fromkeys(SHIFTS, late)]
    windows = [{shift: {"permutation_mmd": True} for shift in (0.0, *SHIFTS)}]
    found = shares(runs, windows)
    assert found["0.2"]["turnout"] == {str(within): 0.75 for within in WITHIN}
    assert found["0.2"]["permutation_mmd"] == 1
    lengths = {"100000": {"weekly": {"observed": 90_000, "stated": 1e5, "at_least": 1}}}
    said = missed({"found_share": {"easy": found}, "run_length": {"by_stated_and_world": lengths}})
    assert len(said) == 3
    assert FULL.windows >= 50


def test_windows_of_an_earlier_run_are_put_beside_the_detector() -> None:
    """They do not depend on it, so their shares are taken over, with the commit that they are of."""
    figures = {
        "found_share": {"easy": {"0.2": {"turnout": {"500": 1.0}}}},
        "false_alarm_rate": {"turnout": 0.0},
    }
    earlier = {
        "found_share": {"easy": {"0.2": {"turnout": {"500": 0.1}, "permutation_mmd": 0.9}}},
        "false_alarm_rate": {"turnout": 0.3, "permutation_mmd": 0.05},
    }
    found = beside_of(figures, {"commit": "abc", "figures": earlier})
    assert found["found_share"]["easy"]["0.2"] == {"turnout": {"500": 1.0}, "permutation_mmd": 0.9}
    assert found["false_alarm_rate"] == {"turnout": 0.0, "permutation_mmd": 0.05}
    assert found["windows_commit"] == "abc"


def _row(place: int, *, share: float, alarms: int) -> Row:
    delay = {0.1: 900.0 - 100 * place, 0.2: 200.0}
    return Row(
        SETTINGS[place], {0.1: share, 0.2: 1.0}, delay, {(5000.0, "weekly"): alarms}, {"weekly": 10_000}
    )


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([(0.99, 0), (1.0, 0)], 0),  # the most cautious that reaches the goals
        ([(0.95, 0), (1.0, 2)], 1),  # two alarms in 10,000 are what 5,000 stands for
        ([(0.95, 0), (0.97, 0)], 1),  # none reaches them: the one that finds soonest
        ([(0.95, 0), (1.0, 3)], 0),
        ([(1.0, 3), (1.0, 3)], None),
    ],
)
def test_the_choice_of_settings_follows_its_rule(found: list[tuple[float, int]], chosen: int | None) -> None:
    """No more false alarms than stated comes first, then the goals, then caution."""
    rows = [_row(place, share=share, alarms=alarms) for place, (share, alarms) in enumerate(found)]
    assert choose(rows) is (None if chosen is None else rows[chosen])


def test_nothing_is_chosen_on_the_benchmarks_seeds() -> None:
    """Seeds of the tuning and of the benchmark do not meet, and the most cautious setting is the default."""
    assert max(SHIFT_SEEDS, YEAR_SEEDS) + 1000 <= SEEDS
    assert SETTINGS[0] == DetectorOptions()
