"""Near duplicates, found by MinHash and compared exactly."""

import random

import pytest

from training.data import duplicates
from training.data.duplicates import MAX_COMPARED, THRESHOLD, Near, across, find

WORDS = [
    "river", "stone", "lamp", "quiet", "garden", "market", "signal", "copper", "winter", "letter", "bridge",
    "window", "orange", "summer", "paper", "engine", "forest", "silver", "harbour", "morning", "basket",
]  # fmt: skip


def prose(seed: int, words: int = 40) -> str:
    """Return words drawn at random."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words))


def edited(text: str, seed: int = 0) -> str:
    """Return the text with one word replaced."""
    words = text.split()
    words[random.Random(seed).randrange(len(words))] = "something"
    return " ".join(words)


@pytest.mark.parametrize(("similarity", "found"), [(0.8, 0.94), (0.88, 0.999), (0.9, 0.9998)])
def test_candidates_are_found_as_often_as_the_documentation_says(similarity: float, found: float) -> None:
    """It is the chance that the sketches of two sets share a band."""
    chance = 1 - (1 - similarity**duplicates.BAND_ROWS) ** duplicates.BANDS
    assert found <= chance <= found + 0.01


def test_copies_up_to_case_and_white_space_repeat_the_first() -> None:
    """Without a threshold nothing else does."""
    texts = ["One two", "three", " one\n TWO ", edited(prose(1)), prose(1)]
    found = find(texts, ["x"] * 5, None)
    assert found.repeats == {2: Near(0, 2, 1.0)}
    assert found.of == (0, 1, 0, 3, 4)


def test_one_changed_word_in_a_long_text_is_a_near_duplicate() -> None:
    """The similarity is that of the sets themselves, not an estimate."""
    text = prose(1)
    found = find([text, prose(2), edited(text)], ["x"] * 3)
    assert list(found.repeats) == [2]
    assert THRESHOLD <= found.repeats[2].similarity < 1
    assert found.of == (0, 1, 0)


def test_another_answer_makes_no_repetition_but_a_cluster() -> None:
    """What is said to nearly the same prompt may differ; the two must be in one split."""
    text = prose(1)
    found = find([text, edited(text), text.upper()], ["yes", "no", "no"])
    assert found.of == (0, 0, 0)
    assert set(found.repeats) == {2}
    assert found.repeats[2].first == 1


def test_most_near_duplicates_are_found_and_no_others() -> None:
    """Of 200 edited texts nearly all are found among 400; of 400 unrelated ones none is."""
    texts = [prose(seed) for seed in range(200)]
    both = find([*texts, *(edited(text, seed) for seed, text in enumerate(texts))], ["x"] * 400)
    assert len(both.repeats) >= 190
    assert all(pair.second - pair.first == 200 for pair in both.repeats.values())
    assert not find([prose(seed) for seed in range(400)], ["x"] * 400).repeats


@pytest.mark.parametrize("texts", [["prompt 17", "prompt 18"], ["a", "b"], ["Is 17 prime?", "Is 19 prime?"]])
def test_short_prompts_that_differ_are_different(texts: list[str]) -> None:
    """One character is much of a short prompt."""
    assert not find(texts, ["x", "x"]).repeats


def test_a_long_instruction_that_all_share_does_not_count() -> None:
    """Short questions below one instruction are not copies of each other; copies among them still are."""
    instruction = prose(0, 200)
    questions = [f"{instruction}\n\n{prose(seed, 4)}" for seed in range(1, 101)]
    found = find([*questions, questions[7]], ["x"] * 101)
    assert found.repeats == {100: Near(7, 100, 1.0)}
    assert not duplicates.find(questions, ["x"] * 100).repeats


def test_an_instruction_on_the_same_line_does_not_count_either() -> None:
    """What a fifth of the prompts share is left out, wherever it stands."""
    instruction = prose(0, 60)
    questions = [f"{instruction} {prose(seed, 4)} {instruction}" for seed in range(1, 101)]
    others = [prose(seed) for seed in range(200, 400)]
    assert not find([*questions, *others], ["x"] * 300).repeats
    both = find([*questions, *others, edited(others[9])], ["x"] * 301)
    assert [(pair.first, pair.second) for pair in both.repeats.values()] == [(109, 300)]


def test_prompts_of_an_instruction_alone_are_compared_whole() -> None:
    """Thirty near copies that have nothing else are still near copies."""
    text = prose(1, 40)
    many = [f"{text} {'.' * number}" for number in range(30)]
    assert len(find(many, ["x"] * 30).repeats) >= 25


def test_an_instruction_on_a_few_rows_does() -> None:
    """What few rows share is their text, not an instruction."""
    questions = [f"{prose(0, 200)}\n\n{prose(seed, 2)}" for seed in range(1, 4)]
    assert len(find(questions, ["x"] * 3).repeats) == 2


def test_a_text_is_compared_with_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many prompts that nearly reach the threshold cost no square of their number."""
    compared: list[int] = []
    whole = duplicates.jaccard
    monkeypatch.setattr(duplicates, "jaccard", lambda one, other: compared.append(1) or whole(one, other))
    common = prose(0, 60)
    find([f"{common} {prose(seed, 12)}" for seed in range(1, 121)], ["x"] * 120)
    assert len(compared) <= 120 * MAX_COMPARED


def test_the_order_of_later_rows_does_not_change_earlier_ones() -> None:
    """The first of several stays: what is added repeats it, never the other way around."""
    text = prose(1)
    texts = [text, prose(2), edited(text, 1), edited(text, 2)]
    assert set(find(texts, ["x"] * 4).repeats) == {2, 3}
    assert set(find([*texts, edited(text, 3)], ["x"] * 5).repeats) == {2, 3, 4}


def test_across_finds_what_is_held_out() -> None:
    """Copies and near duplicates of other rows are found, whatever is said to them."""
    text = prose(1)
    found = across([prose(3), edited(text), "Short One"], [prose(5), text, "short one"])
    assert {place: pair.second for place, pair in found.items()} == {1: 1, 2: 2}
    assert set(across([edited(text), "Short One"], [text, "short one"], None)) == {1}
    assert across(["a"], []) == {}
