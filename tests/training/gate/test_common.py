"""What failing rows have in common."""

import random

import pytest
from scipy.stats import fisher_exact

from training.data.rows import Example
from training.gate.common import common, fisher


def rows_about(texts: list[str], answers: list[str] | None = None) -> list[Example]:
    """Return rows with these prompts."""
    return [
        Example(({"role": "user", "content": text},), answer, columns={"shop": "north", "row_id": text})
        for text, answer in zip(texts, answers or ["yes"] * len(texts), strict=True)
    ]


def test_a_word_that_fails_is_named() -> None:
    """It comes first and is certain; its shares are those of the rows; answers that fail more are named."""
    generator = random.Random(1)
    filler = ["film", "plot", "actor", "story", "scene", "music", "ending", "script"]
    texts = [" ".join(generator.sample(filler, 4)) for _ in range(80)]
    failing = [number % 4 == 0 for number in range(80)]
    texts = [f"{text} refund" if fails else text for text, fails in zip(texts, failing, strict=True)]
    answers = ["no" if fails else "yes" for fails in failing]
    found = common(rows_about(texts, answers), failing)
    assert found is not None
    assert (found.failing, found.rows) == (20, 80)
    assert found.words[0].word == "refund"
    assert (found.words[0].failing, found.words[0].others) == (1.0, 0.0)
    assert found.words[0].p_value < 1e-6
    assert all(word.p_value > 0.05 for word in found.words[1:])
    assert found.answers[0].name == "no"
    assert found.length_failing > found.length_others
    assert found.fields == ()


@pytest.mark.parametrize("failing", [[True, True] + [False] * 8, [True] * 8 + [False] * 2])
def test_a_few_rows_have_nothing_in_common(failing: list[bool]) -> None:
    """Two rows share words by chance."""
    assert common(rows_about([f"row {number}" for number in range(10)]), failing) is None


def test_the_exact_test_is_fishers() -> None:
    """The tail is that of the hypergeometric distribution."""
    expected = fisher_exact([[6, 4], [5, 45]], alternative="greater").pvalue
    assert fisher(6, 10, 11, 60) == pytest.approx(float(expected))
