"""Ratings that not every unit has."""

import random

import pytest

from gateway.experiments.ratings import Rating, ratings

EPOCHS = {1: {"s@1": 0.5, "s@2": 0.5}}
ARMS = {"stable": "s@1", "candidate": "s@2"}


def rated(
    seed: int, count: int, *, good: dict[str, float], says: dict[str, tuple[float, float]]
) -> list[Rating]:
    """Units whose users are happy with `good`, and rate with `says` when happy and when not, by arm."""
    rng = random.Random(seed)
    units = []
    for _ in range(count):
        arm = rng.choice(("s@1", "s@2"))
        happy = rng.random() < good[arm]
        speaks = rng.random() < says[arm][not happy]
        units.append(Rating(1, arm, float(happy) if speaks else None))
    return units


EQUAL = {"s@1": 0.5, "s@2": 0.5}


def test_a_better_candidate_is_found_whichever_arm_lacks_ratings() -> None:
    """With equal rating rates all figures agree, and the verdict's interval is above zero."""
    units = rated(1, 6000, good={"s@1": 0.4, "s@2": 0.7}, says={"s@1": (0.5, 0.5), "s@2": (0.5, 0.5)})
    found = ratings(units, EPOCHS, **ARMS, alpha=0.05)
    assert not found.rates_differ
    assert found.cautious[0] > 0
    assert found.among_raters.low < 0.3 < found.among_raters.high
    assert found.exposed.low < 0.15 < found.exposed.high
    assert found.bounds[0] < 0
    assert found.bounds[1] > 0.3


@pytest.mark.parametrize(
    ("stable", "candidate"),
    [((0.5, 0.5), (0.5, 0.2)), ((0.5, 0.5), (0.8, 0.5)), ((0.2, 0.5), (0.5, 0.5)), ((0.5, 0.8), (0.5, 0.5))],
    ids=["unhappy silent", "happy louder", "stable happy silent", "stable unhappy louder"],
)
def test_ratings_missing_on_one_arm_are_no_win(
    stable: tuple[float, float], candidate: tuple[float, float]
) -> None:
    """Equal arms whose users rate differently look better among raters; that is said, and it is no win."""
    units = rated(2, 4000, good=EQUAL, says={"s@1": stable, "s@2": candidate})
    found = ratings(units, EPOCHS, **ARMS, alpha=0.05)
    assert found.among_raters.low > 0
    assert found.rates_differ
    assert found.cautious[0] <= 0
    assert found.bounds[0] < 0 < found.bounds[1]


def test_bounds_hold_what_the_silent_would_have_said() -> None:
    """The bounds contain the difference among everybody, and are as wide as what is missing."""
    units = rated(3, 4000, good={"s@1": 0.2, "s@2": 0.8}, says={"s@1": (0.9, 0.9), "s@2": (0.9, 0.9)})
    low, high = ratings(units, EPOCHS, **ARMS, alpha=0.05).bounds
    assert 0.3 < low < 0.6 < high < 0.8


def test_the_secondary_analysis_has_an_alpha_of_its_own() -> None:
    """A smaller secondary alpha widens its intervals and no others."""
    units = rated(4, 500, good=EQUAL, says={"s@1": (0.5, 0.5), "s@2": (0.5, 0.5)})
    one = ratings(units, EPOCHS, **ARMS, alpha=0.05)
    two = ratings(units, EPOCHS, **ARMS, alpha=0.05, secondary_alpha=0.01)
    assert two.exposed == one.exposed
    assert two.rate.high > one.rate.high
    assert two.bounds[0] < one.bounds[0]
