"""What an adapter must beat."""

from collections import Counter

import numpy as np
import pytest

from training.data.rows import Example
from training.evaluation.baselines import SHOT_CHARS, draw_shots, majority, plain_classifier


def rows(count: int) -> list[Example]:
    """Return rows whose words give the answer away, a little noisily."""
    generator = np.random.default_rng(1)
    made = []
    for number in range(count):
        good = number % 3 > 0
        words = ["fine", "warm", "witty"] if good else ["dull", "cold", "flat"]
        text = " ".join(generator.choice([*words, "the", "film", "was"], size=6))
        made.append(Example(({"role": "user", "content": f"{text} {number}"},), "good" if good else "bad"))
    return made


def test_the_majority_is_the_commonest_answer() -> None:
    """Of two equally common ones the first by name."""
    assert majority(rows(30), 2) == ("good", "good")
    assert majority([*rows(3)[:2]], 1) == ("bad",)
    with pytest.raises(ValueError, match="no answer"):
        majority([], 1)


@pytest.mark.slow
def test_the_plain_classifier_learns_what_words_say() -> None:
    """It is right on nearly all rows that it has not seen, and gives probabilities for all labels."""
    some = rows(300)
    answers, chances = plain_classifier(some[:200], some[200:], ["bad", "good", "unseen"], seed=1)
    right = [answer == row.completion for answer, row in zip(answers, some[200:], strict=True)]
    assert sum(right) / len(right) > 0.9
    assert chances.sum(axis=1) == pytest.approx(np.ones(100))
    assert not chances[:, 2].any()
    again, _ = plain_classifier(some[:200], some[200:], ["bad", "good", "unseen"], seed=1)
    assert again == answers


@pytest.mark.slow
def test_the_plain_classifier_manages_with_a_single_row_of_a_label() -> None:
    """Then nothing can be cross-validated, and the middle strength is taken."""
    some = [*rows(8)[1:3], rows(4)[3]]
    answers, _ = plain_classifier(some, some, ["bad", "good"], seed=1)
    assert set(answers) <= {"bad", "good"}
    with pytest.raises(ValueError, match="two different answers"):
        plain_classifier(some[:2], some, ["good"], seed=1)


def test_worked_examples_are_balanced_and_follow_from_the_seed() -> None:
    """Each answer is there equally often; another draw has other rows; the file's order does not matter."""
    some = rows(90)
    first = draw_shots(some, 4, seed=1, draw=0)
    assert Counter(row.completion for row in first) == {"good": 2, "bad": 2}
    assert draw_shots(some[::-1], 4, seed=1, draw=0) == first
    assert draw_shots(some, 4, seed=1, draw=1) != first
    assert draw_shots(some, 4, seed=2, draw=0) != first
    assert len(draw_shots(some[:2], 4, seed=1, draw=0)) == 2


def test_long_rows_are_no_worked_examples_unless_there_are_no_others() -> None:
    """They would fill the prompt."""
    long = Example(({"role": "user", "content": "x" * SHOT_CHARS},), "good")
    assert long not in draw_shots([long, *rows(3)], 4, seed=1, draw=0)
    assert draw_shots([long], 1, seed=1, draw=0) == (long,)
