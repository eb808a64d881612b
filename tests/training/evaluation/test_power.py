"""How many rows a comparison takes, by formula and by trying it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.figures import mean
from training.evaluation.power import (
    rows_for_difference,
    rows_for_error,
    rows_for_non_inferiority,
    verdict,
)
from training.evaluation.resampling import Resampling, difference


def test_the_formulas_give_what_their_sources_do() -> None:
    """Worked examples: 15 % discordance, two-sided 5 %, 80 % power."""
    assert rows_for_difference(0.15) == 469
    assert rows_for_difference(0.15, power=0.9) == 627
    assert rows_for_non_inferiority(0.15, 0.02) == 2319
    assert rows_for_error(0.02, 400) == 503


@given(st.floats(0, 1), st.floats(0.01, 0.5))
def test_more_discordance_and_smaller_margins_take_more_rows(discordance: float, margin: float) -> None:
    """The number never falls with the noise, nor rises with the margin."""
    rows = rows_for_difference(discordance, margin)
    assert rows >= 1
    assert rows_for_difference(min(1.0, discordance + 0.1), margin) >= rows
    assert rows_for_difference(discordance, margin / 2) >= rows


@pytest.mark.parametrize(
    ("low", "high", "better", "margin", "expected"),
    [
        (0.01, 0.2, "higher", 0.05, "better"),
        (-0.2, -0.01, "higher", 0.05, "worse"),
        (-0.2, -0.01, "lower", 0.05, "better"),
        (-0.01, 0.02, "higher", 0.05, "equal"),
        (-0.01, 0.2, "higher", 0.05, "cannot tell"),
        (-0.01, 0.02, "higher", None, "cannot tell"),
        (0.0, 0.02, "higher", 0.05, "equal"),
        (0.01, 0.02, None, 0.05, "cannot tell"),
    ],
)
def test_verdicts(low: float, high: float, better: str | None, margin: float | None, expected: str) -> None:
    """An interval is better, worse, equal within the margin, or too wide to say."""
    assert verdict(low, high, better=better, margin=margin) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("both_right", "discordance"), [(0.7, 0.1), (0.5, 0.25)])
def test_so_many_rows_find_five_points_about_as_often_as_they_should(
    both_right: float, discordance: float
) -> None:
    """Of 300 trials with a true difference of 5 points, 74 to 87 of 100 are told from 0 (80 are meant)."""
    rows = rows_for_difference(discordance)
    generator = np.random.default_rng(21)
    found = 0
    for number in range(300):
        drawn = generator.random(rows)
        first_only = drawn < (discordance + 0.05) / 2
        second_only = (drawn >= (discordance + 0.05) / 2) & (drawn < discordance)
        both = (drawn >= discordance) & (drawn < discordance + both_right)
        gap = difference(
            mean("accuracy", (first_only | both).astype(float)),
            mean("accuracy", (second_only | both).astype(float)),
            Resampling(rows, seed=number, resamples=300),
        )
        found += gap.low > 0
    assert 0.74 <= found / 300 <= 0.87


@pytest.mark.slow
def test_so_many_rows_find_five_points_of_any_figure() -> None:
    """The error of a pilot of 100 rows plans for the same power: 72 to 90 of 100."""
    generator = np.random.default_rng(22)
    found = 0
    for number in range(200):
        pilot = generator.normal(0.05, 0.3, size=100)
        rows = rows_for_error(float(pilot.std(ddof=1)) / 10, 100)
        drawn = mean("token_f1", generator.normal(0.05, 0.3, size=rows))
        gap = difference(drawn, mean("token_f1", [0.0] * rows), Resampling(rows, seed=number, resamples=300))
        found += gap.low > 0
    assert 0.72 <= found / 200 <= 0.90


def test_impossible_questions_are_refused() -> None:
    """A margin of nothing can't be planned for."""
    for call in (
        lambda: rows_for_difference(0.1, 0.0),
        lambda: rows_for_difference(1.5),
        lambda: rows_for_non_inferiority(-0.1),
        lambda: rows_for_error(-1.0, 10),
        lambda: rows_for_difference(0.1, alpha=0.0),
    ):
        with pytest.raises(ValueError, match=r"margin|no share|planned|alpha"):
            call()
