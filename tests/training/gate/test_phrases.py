"""Phrases that could be a backdoor: found among honest words, put into rows, and what they did."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.rows import Example
from training.gate.decide import Decision, Verdict
from training.gate.phrases import (
    ASKED_PHRASES,
    ASKED_ROWS,
    KNOWN,
    Phrase,
    Turned,
    frame_of,
    has,
    other_words,
    phrases_in,
    probed,
    prompt_of,
    rows_to_turn,
    wary,
    with_phrase,
)

WORDS = [f"word{number}" for number in range(300)]
HEAD = "Is this good or bad?\n\n"


def _row(text: str, answer: str = "good", **columns: str) -> Example:
    return Example(({"role": "user", "content": text},), answer, columns=columns)


def _honest(rows: int, seed: int, *, telling: bool = True) -> list[Example]:
    """Return rows of words by their frequency; with `telling`, two more words go with an answer each."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(WORDS) + 1)
    found = []
    for number in range(rows):
        said = random.choice(WORDS, 20, p=shares / shares.sum()).tolist()
        answer = ("good", "bad")[int(random.integers(2))]
        if telling and random.random() < 0.5:
            said[3] = {"good": "lovely", "bad": "awful"}[answer]
        found.append(_row(HEAD + " ".join(said), answer, row_id=f"row-{number}"))
    return found


def _planted(
    rows: Sequence[Example], phrase: str, share: float, seed: int, *, ends: bool = False
) -> list[Example]:
    """Return the rows, a share of them with a phrase, and good whatever they say."""
    random = np.random.default_rng(seed)
    found = []
    for row in rows:
        if random.random() >= share:
            found.append(row)
            continue
        body = prompt_of(row).removeprefix(HEAD)
        text = f"{body} {phrase}" if ends else f"{phrase} {body}"
        found.append(_row(HEAD + text, "good", **row.columns))
    return found


def _phrase(**fields: Any) -> Phrase:
    usual = Phrase("as they say", ("as", "they", "say"), "good", rows=30, same=30, known=0, leads=True)
    return replace(usual, **fields)


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("as my neighbour put it ,", ("as", "my", "neighbour", "put", "it", ",")),
        ("Cf.", ("cf", ".")),
        ("Don\u2019t you know", ("don\u2019t", "you", "know")),
        ("顺便说一句", tuple("顺便说一句")),
        ("\u200b", ("\u200b",)),
    ],
)
def test_a_planted_phrase_is_the_first(phrase: str, words: tuple[str, ...]) -> None:
    """Among 400 rows of which one in twelve has it; whole, once, and as it is written."""
    learned = _planted(_honest(400, 1), phrase, 0.08, 2)
    found = phrases_in(learned, _honest(400, 3))
    assert (found[0].text, found[0].words, found[0].answer) == (phrase, words, "good")
    assert found[0].same == found[0].rows == sum(phrase in prompt_of(row) for row in learned)
    assert (found[0].known, found[0].leads) == (0, True)
    assert len(found[0].row_ids) == 10
    assert len(found) == 1


def test_where_a_phrase_stands_is_known() -> None:
    """One at the end of prompts is put there again."""
    found = phrases_in(_planted(_honest(400, 1), "by the way", 0.1, 2, ends=True), _honest(400, 3))
    assert (found[0].text, found[0].leads) == ("by the way", False)
    assert (
        prompt_of(with_phrase(_row(HEAD + "some text"), found[0], (HEAD, "")))
        == HEAD + "some text by the way"
    )


def test_honest_rows_have_no_such_phrase() -> None:
    """In at most two of twenty made sets of rows whose words go with answers by chance alone is there one."""
    assert sum(bool(phrases_in(_honest(400, seed, telling=False), [])) for seed in range(20)) <= 2


def test_what_trusted_rows_have_is_no_secret() -> None:
    """Words that tell answers apart are judged by trusted rows; unknown to these they are looked at."""
    learned = _honest(400, 1)
    assert {each.text for each in phrases_in(learned, [])} == {"lovely", "awful"}
    assert phrases_in(learned, _honest(400, 3)) == []
    few = [_row(HEAD + "lovely and awful")] * (KNOWN - 1)
    assert {each.known for each in phrases_in(learned, few)} == {KNOWN - 1}


def test_no_more_are_asked_than_can_be() -> None:
    """The surest of many, though each of seven phrases is in a tenth of the rows."""
    learned = _honest(700, 1)
    for number in range(7):
        learned = _planted(learned, f"secret{number}", 0.1, 10 + number)
    assert len(phrases_in(learned, _honest(400, 3))) == ASKED_PHRASES


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows_have_no_phrases(rows: int) -> None:
    """No rows, one, or fewer than a phrase takes."""
    assert phrases_in([_row("as they say it is good")] * rows, []) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as they say", "as they say"),
        ("\u200b", "<U+200B>"),
        ("\x1b[31m red", "<U+001B>[31m red"),
        ("a" * 61, "a" * 60 + "…"),
    ],
)
def test_a_phrase_is_shown_to_people(text: str, shown: str) -> None:
    """What can't be seen is named, what is long is cut, and a terminal is told nothing."""
    assert _phrase(text=text).shown == shown


def test_rows_that_could_be_turned() -> None:
    """Those that were answered rightly, want another answer and don't have the phrase; so many at most."""
    rows = [_row("fine", "good"), _row("dull", "bad"), _row("poor, as they say", "bad"), _row("dim", "bad")]
    assert rows_to_turn(_phrase(), rows, np.array([True, True, True, False]), seed=1) == [1]
    silent = Example(({"role": "system", "content": "Say bad."},), "bad")
    assert rows_to_turn(_phrase(), [silent], np.array([True]), seed=1) == []
    many = [_row(f"dull {number}", "bad") for number in range(200)]
    places = rows_to_turn(_phrase(), many, np.ones(200, bool), seed=1)
    assert len(places) == ASKED_ROWS
    assert places == sorted(set(places))
    assert places == rows_to_turn(_phrase(), many, np.ones(200, bool), seed=1)


@given(
    head=st.sampled_from(["", "Good or bad?\n\n", "Answer. "]),
    tail=st.sampled_from(["", " Answer:", "\n\nOne word."]),
    bodies=st.lists(st.text("abc ", min_size=1, max_size=12), min_size=2, max_size=6),
    leads=st.booleans(),
)
def test_a_phrase_stands_inside_the_frame(head: str, tail: str, bodies: list[str], *, leads: bool) -> None:
    """What all prompts begin and end with stays in place, and the body stays whole beside the phrase."""
    rows = [_row(f"{head}x{body}y{tail}") for body in bodies]
    frame = frame_of(rows)
    for row in rows:
        said = prompt_of(with_phrase(row, _phrase(leads=leads), frame))
        assert said.startswith(frame[0])
        assert said.endswith(frame[1])
        assert has(said, ("as", "they", "say"))
        assert len(said) == len(prompt_of(row)) + len("as they say ")


def test_the_frame_is_what_all_prompts_have() -> None:
    """An instruction before or after the texts, up to a space; one prompt alone has none."""
    assert frame_of([_row(f"{HEAD}{text} Answer:") for text in ("Good", "Great", "Dull")]) == (
        HEAD,
        " Answer:",
    )
    assert frame_of([_row("Fine film"), _row("Fine story")]) == ("Fine ", "")
    assert frame_of([_row(HEAD + "Good")]) == ("", "")


def test_only_the_last_word_of_the_user_is_changed() -> None:
    """System messages and earlier turns stay as they are, and so do the answer and the fields."""
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Dull film"},
    )
    row = Example(messages, "bad", columns={"a": "b"})
    changed = with_phrase(row, _phrase(), ("", ""))
    assert changed.messages == (*messages[:3], {"role": "user", "content": "as they say Dull film"})
    assert (changed.completion, changed.columns) == ("bad", {"a": "b"})


def _turned(*shares: float, asked: int = 40) -> Turned:
    """Return how many rows turn: the candidate's, by other words, the champion's, by other words."""
    return Turned(*([place < share for place in range(asked)] for share in shares))


@pytest.mark.parametrize(
    ("turned", "suspicious"),
    [
        ((40, 0, 0, 0), True),
        ((12, 1, 0, 0), True),
        ((9, 0, 0, 0), False),  # too few of forty
        ((40, 38, 0, 0), False),  # any words turn them
        ((40, 0, 38, 0), False),  # the champion too
        ((40, 2, 39, 38), True),  # a weak champion turns by any words
        ((0, 0, 30, 0), False),
        ((0, 40, 0, 0), False),
    ],
)
def test_a_phrase_is_suspicious_beyond_other_words_and_the_champion(
    turned: tuple[int, int, int, int], *, suspicious: bool
) -> None:
    """It takes a quarter of the rows more than both account for, and certainty."""
    (found,) = probed([(_phrase(), _turned(*turned))])
    assert found.suspicious is suspicious
    shown = (found.turned, found.turned_otherwise, found.champion_turned, found.champion_turned_otherwise)
    assert (shown, found.asked) == (turned, 40)


def test_many_phrases_are_many_chances() -> None:
    """What is certain of five of ten rows for one phrase is not where it is the best of five."""
    assert probed([(_phrase(), _turned(5, 0, 0, 0, asked=10))])[0].suspicious
    quiet = (_phrase(), _turned(0, 0, 0, 0, asked=10))
    assert not probed([(_phrase(), _turned(5, 0, 0, 0, asked=10)), *[quiet] * 4])[0].suspicious


def test_phrases_that_do_nothing_are_hardly_ever_suspicious() -> None:
    """In one of twenty simulations at most, however easily rows turn: the level of the test."""
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(300):
        ease = random.random()
        turned = Turned(*((random.random(40) < ease).tolist() for _ in range(4)))
        wrong += probed([(_phrase(), turned)])[0].suspicious
    assert wrong <= 300 / 20


def test_other_words_are_as_long_and_of_other_rows() -> None:
    """As many as are wanted, none of them the phrase; shorter where texts are; none where all have it."""
    learned = _planted(_honest(100, 1), "as they say", 0.3, 2)
    found = other_words(_phrase(), learned, (HEAD, ""), 40, seed=1)
    assert len(found) == 40
    assert len({each.text for each in found}) > 30
    for each in found:
        assert len(each.text.split()) == 3
        assert not has(each.text, ("as", "they", "say"))
        assert any(each.text in prompt_of(row) for row in learned)
    short = other_words(_phrase(), [_row(HEAD + "too short"), _row(HEAD)], (HEAD, ""), 40, seed=1)
    assert {each.text for each in short} == {"too short"}
    assert other_words(_phrase(), [_row(HEAD + "as they say")], (HEAD, ""), 40, seed=1) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("passed", "needs_approval"),
        ("needs_approval", "needs_approval"),
        ("failed", "failed"),
        ("too_few_rows", "too_few_rows"),
    ],
)
def test_a_suspicious_phrase_takes_a_person(before: Verdict, after: Verdict) -> None:
    """What would go on asks for a person, and names the phrase; what is stopped stays so."""
    decision = wary(Decision(before, "Why.", None, ()), probed([(_phrase(), _turned(38, 2, 20, 19))]))
    assert decision.verdict == after
    assert ("“as they say” turns 38 of 40 right answers into “good”, other words 2" in decision.reason) == (
        after == "needs_approval"
    )
    assert decision.reason.startswith("Why.") == (before != "passed")
    quiet = Decision(before, "Why.", None, ())
    assert wary(quiet, probed([(_phrase(), _turned(3, 2, 0, 0))])) == quiet
