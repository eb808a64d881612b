"""From figures to words."""

from dataclasses import replace
from typing import Literal

import pytest

from gateway.experiments.compare import Difference
from gateway.experiments.mismatch import Mismatch
from gateway.experiments.plan import Plan
from gateway.experiments.ratings import Ratings
from gateway.experiments.verdict import Finding, Reading, alphas, verdict

FINE = Mismatch(1.0, suspicious=False, epoch=3)
BETTER = Difference(0.031, 0.004, 0.058, 0.6, 0.631, 900, 880)
UNSURE = replace(BETTER, low=-0.06)
THUMBS = Reading("support@4", "support@3", "thumbs", "higher", 0.05, BETTER)
TWO_DAYS = Plan(0.05, 4000, 2.0, 14.0, 0.03)
SAME_RATES = replace(BETTER, estimate=0.0, low=-0.02, high=0.02)


@pytest.mark.parametrize(
    ("reading", "finding", "promote", "text"),
    [
        (
            THUMBS,
            Finding.BETTER,
            True,
            "support@4 is better on thumbs by 3.1 points (at least 0.4): safe to promote",
        ),
        (
            replace(THUMBS, better="lower", metric="errors"),
            Finding.WORSE,
            False,
            "support@4 is worse on errors by 3.1 points (at least 0.4): do not promote",
        ),
        (
            replace(THUMBS, difference=UNSURE),
            Finding.UNKNOWN,
            False,
            "cannot tell yet; at this rate about 2 days for a difference of 5 points",
        ),
        (
            replace(THUMBS, difference=replace(BETTER, low=-0.04)),
            Finding.NOT_WORSE,
            True,
            "support@4 is not worse on thumbs by more than 4.0 points: safe to promote",
        ),
        (
            replace(THUMBS, difference=Difference(None, -1.0, 1.0, None, None, 3, 0)),
            Finding.UNKNOWN,
            False,
            "cannot tell yet; at this rate about 2 days for a difference of 5 points",
        ),
        (
            replace(THUMBS, metric="stars", scale=4.0, unit=""),
            Finding.BETTER,
            True,
            "support@4 is better on stars by 0.12 (at least 0.02): safe to promote",
        ),
    ],
    ids=["better", "worse", "unsure", "not worse", "nothing", "stars"],
)
def test_what_may_be_said(reading: Reading, finding: Finding, promote: bool, text: str) -> None:
    """The interval alone decides; the estimate is only said."""
    found = verdict(reading, mismatch=FINE, plan=TWO_DAYS)
    assert (found.finding, found.promote, found.text) == (finding, promote, text)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (None, "cannot tell yet; at this rate a difference of 5 points will not be found"),
        (0.0, "cannot tell yet; a difference of 5 points would most likely have shown by now"),
        (0.02, "cannot tell yet; at this rate about an hour for a difference of 5 points"),
        (0.5, "cannot tell yet; at this rate about 12 hours for a difference of 5 points"),
        (40.2, "cannot tell yet; at this rate about 40 days for a difference of 5 points"),
    ],
)
def test_how_long_it_will_take(days: float | None, text: str) -> None:
    """What can't be told yet comes with when it can."""
    reading = replace(THUMBS, difference=UNSURE)
    assert verdict(reading, mismatch=FINE, plan=replace(TWO_DAYS, days=days)).text == text
    assert verdict(reading, mismatch=FINE).text == "cannot tell yet"


def test_a_mismatch_withholds_everything() -> None:
    """However clear the difference, nothing is said when the arms did not get their units."""
    found = verdict(THUMBS, mismatch=Mismatch(1e-6, suspicious=True, epoch=7))
    assert (found.finding, found.promote) == (Finding.WITHHELD, False)
    assert "epoch 7, p = 1e-06" in found.text


@pytest.mark.parametrize(
    ("sticky", "units", "said"),
    [
        ("key", 29, "no verdict: sticky by key, and the smaller arm has 29 units of at least 30"),
        ("tenant", 29, "no verdict: sticky by tenant, and the smaller arm has 29 units of at least 30"),
        ("key", 30, "(30 against 900 units: keys)"),
        ("none", 5, "(5 against 900 units: each request is a unit)"),
        ("subject", 5, "safe to promote"),
    ],
)
def test_few_units_are_named_and_refused(
    sticky: Literal["subject", "key", "tenant", "none"], units: int, said: str
) -> None:
    """Sticky by key or tenant there is no verdict below 30 units an arm; what a unit is stands beside it."""
    reading = replace(THUMBS, difference=replace(BETTER, candidate_units=units))
    assert verdict(reading, mismatch=FINE, sticky=sticky).text.endswith(said)


def rated(**changed: Difference) -> Ratings:
    """Ratings that all say the same, but for what is changed."""
    told = {
        "exposed": BETTER,
        "rate": SAME_RATES,
        "among_raters": BETTER,
        "as_low": BETTER,
        "as_high": BETTER,
    }
    return Ratings(bounds=(-0.4, 0.45), **{**told, **changed})


def test_unequal_rating_rates_give_bounds_instead() -> None:
    """Where one arm is rated more often, that is said, with bounds and without a verdict."""
    rate = replace(BETTER, estimate=-0.12, low=-0.15, high=-0.09)
    found = verdict(THUMBS, mismatch=FINE, ratings=rated(rate=rate))
    assert (found.finding, found.promote) == (Finding.WITHHELD, False)
    assert found.text == (
        "no verdict on thumbs: support@4 was rated less often than support@3 (by 12.0 points, at least 9.0), "
        "so raters do not compare; had everybody rated, the difference would be between -40.0 and 45.0 points"
    )


def test_a_win_must_hold_whichever_arm_lacks_ratings() -> None:
    """A difference that silence could account for is no verdict; the bound that is said is the cautious."""
    found = verdict(THUMBS, mismatch=FINE, ratings=rated(as_low=replace(BETTER, low=0.002)))
    assert found.text.endswith("by 3.1 points (at least 0.2): safe to promote")
    found = verdict(THUMBS, mismatch=FINE, ratings=rated(as_high=UNSURE))
    assert (found.finding, found.promote) == (Finding.UNKNOWN, False)
    assert found.text == "cannot tell yet: arms differ on thumbs, but who rated could account for it"


def test_equal_arms_by_design() -> None:
    """An A/A experiment never promotes, and warns when equal arms differ."""
    found = verdict(replace(THUMBS, difference=UNSURE), mismatch=FINE, same_expected=True)
    assert (found.finding, found.promote) == (Finding.SAME, False)
    assert found.text == "A/A: no difference on thumbs, between -6.0 and 5.8 points"
    found = verdict(THUMBS, mismatch=FINE, same_expected=True)
    assert (found.finding, found.promote) == (Finding.WITHHELD, False)
    assert found.text == "A/A: equal arms differ on thumbs by 3.1 points: do not trust this experiment"


@pytest.mark.parametrize(
    ("others", "candidates", "primary", "other"),
    [(0, 1, 0.05, 0.0), (0, 2, 0.025, 0.0), (4, 1, 0.04, 0.0025), (2, 2, 0.02, 0.0025)],
)
def test_alpha_is_spent_once(others: int, candidates: int, primary: float, other: float) -> None:
    """The primary metric's part and all the others' add up to alpha over all candidates."""
    own, each = alphas(0.05, others=others, candidates=candidates)
    assert (own, each) == (pytest.approx(primary), pytest.approx(other))
    assert candidates * (own + others * each) == pytest.approx(0.05)
