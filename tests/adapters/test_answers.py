"""How far answers are apart, and which prompts tell adapters apart best."""

import pytest

from adapters.answers import choose, difference, digest_of_prompts, distance


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        ({"1": -1.0, "2": -3.0}, {"1": -1.0, "2": -3.0}, 0.0),
        ({"1": -1.0, "2": -3.0}, {"1": -1.5, "2": -2.9}, 0.3),
        ({"1": -1.0, "2": -3.0}, {"1": -1.0, "3": -2.0}, (0.0 + 0.0 + 1.0) / 3),
        ({"1": -0.1, "2": -4.0}, {"8": -0.2, "9": -3.0}, (2.9 + 0.0 + 3.8 + 1.0) / 4),
    ],
    ids=["same", "shared", "one token unknown", "nothing shared"],
)
def test_difference(ours: dict[str, float], theirs: dict[str, float], apart: float) -> None:
    """It is the mean over all listed tokens; an unlisted one is at most as likely as the last listed."""
    assert difference(ours, theirs) == pytest.approx(apart)
    assert difference(theirs, ours) == pytest.approx(apart)


def test_distance() -> None:
    """The distance is the mean over prompts, whose number must agree."""
    assert distance([{"1": -1.0}, {"1": -1.0}], [{"1": -1.5}, {"1": -1.1}]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="shorter"):
        distance([{"1": -1.0}, {"1": -1.0}], [{"1": -1.0}])


def test_prompts_have_one_digest_by_order() -> None:
    """Other prompts, another order and another division are other digests."""
    digests = {digest_of_prompts(each) for each in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""])}
    assert len(digests) == 4


def test_choice_helps_the_rival_that_is_told_apart_worst() -> None:
    """A prompt that separates the worse rival goes before one that separates the better one more."""
    gains = {"base": [9.0, 1.0, 5.0], "predecessor": [0.1, 0.5, 0.3]}
    assert choose(gains, [5, 5, 5], at_most=2, budget=100, at_least=1) == [1, 2]


def test_choice_keeps_to_its_budget() -> None:
    """Long prompts are left out when they do not fit, but never so many that too few are left."""
    gains = {"base": [9.0, 8.0, 1.0, 1.0]}
    assert choose(gains, [50, 60, 10, 9], at_most=3, budget=70, at_least=1) == [0, 3, 2]
    assert choose(gains, [50, 60, 10, 9], at_most=2, budget=1, at_least=2) == [0, 1]
    assert choose(gains, [50, 60, 10, 9], at_most=2, budget=1, at_least=0) == []
