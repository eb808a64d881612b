"""One paired comparison: certainty, margins and the rows it takes."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.evaluation.figures import Array, mean
from training.evaluation.resampling import Resampling
from training.gate.gaps import MIN_UNITS, Gap, gap_of, least_units, need_better, need_not_worse


def compared(up: int, down: int, same: int, *, per_unit: int = 1) -> Gap:
    """Return the gap of rows on which the candidate alone is right, the other alone, or both."""
    ours = mean("accuracy", [1.0] * up + [0.0] * down + [1.0] * same)
    theirs = mean("accuracy", [0.0] * up + [1.0] * down + [1.0] * same)
    rows = up + down + same
    return gap_of(ours, theirs, Resampling([place // per_unit for place in range(rows)], seed=1))


@pytest.mark.parametrize(
    ("up", "down", "same", "better", "worse", "within"),
    [
        (40, 10, 150, True, False, True),
        (10, 40, 150, False, True, False),
        (20, 20, 160, False, False, False),
        (5, 5, 490, False, False, True),
        (0, 0, 100, False, False, True),
        (0, 0, 20, False, False, False),
    ],
)
def test_certainty_follows_from_the_rows(
    *, up: int, down: int, same: int, better: bool, worse: bool, within: bool
) -> None:
    """Better, worse, within five points, or nothing certain; twenty equal rows prove nothing."""
    found = compared(up, down, same)
    assert (found.better, found.worse, found.within(0.05)) == (better, worse, within)
    assert found.rows == up + down + same
    assert 0 <= found.p_better <= 1
    assert found.design == 1.0


def test_rows_of_one_subject_count_as_one() -> None:
    """Four rows a subject that say the same widen the interval and quadruple the rows needed."""
    alone, grouped = compared(40, 20, 340), compared(40, 20, 340, per_unit=4)
    assert grouped.units == 100
    assert grouped.design == pytest.approx(4, rel=0.1)
    width = grouped.interval.high - grouped.interval.low
    assert width > 1.5 * (alone.interval.high - alone.interval.low)
    assert need_not_worse(grouped, 0.05, power=0.9) > 3.5 * need_not_worse(alone, 0.05, power=0.9)
    assert alone.better
    assert not grouped.better


def test_rows_needed_do_not_see_who_wins() -> None:
    """The number goes by how often the two differ: exchanged, they need as many."""
    for need in (need_better, need_not_worse):
        assert need(compared(40, 10, 150), 0.05, power=0.9) == need(compared(10, 40, 150), 0.05, power=0.9)


def test_overlaps_are_compared_by_resampling() -> None:
    """A figure that is no success or failure has a gap too, and a need from its standard error."""
    generator = np.random.default_rng(3)
    theirs = generator.random(120) * 0.8
    ours = theirs + 0.1 + generator.normal(0, 0.05, 120)
    found = gap_of(mean("token_f1", ours), mean("token_f1", theirs), Resampling(120, seed=1))
    assert found.better
    assert found.differing is None
    assert found.interval.low < 0.1 < found.interval.high
    assert need_better(found, 0.1, power=0.9) < 50


def overlapping(apart: Sequence[float] | Array, *, per_unit: int = 1) -> Gap:
    """Return the gap of rows whose word F1 differs by so much."""
    theirs = np.full(len(apart), 0.5)
    rows = Resampling([place // per_unit for place in range(len(apart))], seed=1)
    return gap_of(mean("token_f1", theirs + np.array(apart) / 2), mean("token_f1", theirs), rows)


@pytest.mark.parametrize("apart", [0.0, 0.04, -0.2])
def test_rows_that_all_differ_alike_leave_room_for_others(apart: float) -> None:
    """Resampling shows no spread there; a share that thirty rows miss in one case of twenty may be unlike."""
    found = overlapping([2 * apart] * 30).interval
    unseen = 1 - 0.05 ** (1 / 30)
    assert found.low == pytest.approx((1 - unseen) * apart - unseen)
    assert found.high == pytest.approx((1 - unseen) * apart + unseen)


@pytest.mark.parametrize("per_unit", [1, 5])
def test_overlaps_that_do_not_differ_need_as_many_rows_as_labels(per_unit: int) -> None:
    """Where nothing differs one more row, or subject, might: 3 in 60 is what five points leave open."""
    rows = 30 * per_unit
    few, enough = (
        overlapping([0.0] * rows, per_unit=per_unit),
        overlapping([0.0] * 2 * rows, per_unit=per_unit),
    )
    assert need_not_worse(few, 0.05, power=0.9) == pytest.approx(
        per_unit * need_not_worse(compared(0, 0, 30), 0.05, power=0.9), abs=per_unit
    )
    assert not few.within(0.05)
    assert need_not_worse(enough, 0.05, power=0.9) <= 2 * rows
    assert enough.within(0.05)


def test_an_equal_candidate_passes_on_the_rows_that_overlaps_need() -> None:
    """However little its answers differ: the room for what was not seen is counted among the rows needed."""
    generator = np.random.default_rng(4)
    for spread in (0.02, 0.05, 0.15):
        need = need_not_worse(overlapping(generator.normal(0, spread, 200)), 0.05, power=0.9)
        gaps = [overlapping(generator.normal(0, spread, need)) for _ in range(60)]
        assert sum(gap.within(0.05) for gap in gaps) >= 48


@pytest.mark.parametrize(("margin", "units"), [(0.01, 300), (0.05, 60), (0.1, 30), (0.2, MIN_UNITS)])
def test_fewer_units_than_three_over_the_margin_prove_nothing(margin: float, units: int) -> None:
    """One in twenty such candidates at most shows nothing of its harm on so many units."""
    assert least_units(margin) == units
    assert (1 - margin) ** units <= 0.05
