"""Recorded requests as columns, and what of the reference those need to know."""

import hashlib
from typing import Any

import numpy as np
import pytest

from gateway.store.traffic import Watched
from monitoring.watch.columns import ANSWERS, PROMPTS, Habits, habits, numbers, signals, teaching
from tests.monitoring.made import request_rows
from tests.monitoring.watch.made import one_language


def _watched(prompts: list[str], *, asked_again: bool | None = None, **changes: Any) -> list[Watched]:
    return [Watched(row, asked_again) for row in request_rows(prompts, **changes)]


def test_habits_are_learned_from_a_fifth_and_hidden_there() -> None:
    """Words and openings come from one row in five, whose own columns are gaps; elsewhere they count."""
    rows = _watched([f"Summarise this text: number {place} is fine" for place in range(300)])
    known = habits(rows, languages=one_language)
    assert known == Habits.from_document(known.document())
    assert {"summarise", "text", "number"} <= known.words
    assert len(known.openings) == 1
    taught = np.array(teaching(rows))
    assert 0.1 < taught.mean() < 0.3
    found = numbers(rows, known, languages=one_language, learning=True)
    assert set(found) == {*PROMPTS, *ANSWERS}
    for name in ("new_words", "known_opening"):
        assert np.isnan(found[name][taught]).all()
        assert np.isfinite(found[name][~taught]).all()
    assert found["known_opening"][~taught].min() == 1
    assert found["new_words"][~taught].max() == 0


def test_a_session_teaches_as_a_whole() -> None:
    """Rows without a subject teach in whole runs, a subject's rows all or none: the others' words are new."""
    runs = _watched(["abcdefghij"[place // 40] * 5 for place in range(400)])
    for place, each in enumerate(runs):
        assert each.row.unit is None
        each.row.id = f"req-{place:032x}"
    taught = np.array(teaching(runs)).reshape(10, 40)
    assert (taught.all(axis=1) == taught.any(axis=1)).all()
    assert taught.any(axis=1).sum() == 2
    found = numbers(runs, habits(runs, languages=one_language), languages=one_language, learning=True)
    assert found["new_words"][~taught.ravel()].min() == 1
    for place, each in enumerate(runs):
        each.row.unit = f"subject-{place % 100}"
    taught = np.array(teaching(runs)).reshape(4, 100)
    assert (taught == taught[0]).all()
    assert 0.1 < taught.mean() < 0.3
    assert teaching([]) == []


def test_another_template_language_and_vocabulary_show() -> None:
    """A prompt of another kind has new words, no known opening, and not the main language."""
    known = Habits("en", frozenset({"old", "words"}), frozenset({"old words"}))
    rows = _watched(["old words", "neue alte words", ""])
    found = numbers(rows, known, languages=lambda _: ["en", "de", None])
    np.testing.assert_array_equal(found["main_language"], [1, 0, np.nan])
    np.testing.assert_allclose(found["new_words"], [0, 2 / 3, np.nan])
    np.testing.assert_array_equal(found["known_opening"], [1, 0, 0])


def test_prompts_without_a_template_have_no_known_opening() -> None:
    """Where the reference's prompts begin in many ways, the column is a gap everywhere."""
    rows = _watched([f"{hashlib.sha256(bytes([n, n % 7])).hexdigest()} and so on" for n in range(250)])
    known = habits(rows, languages=one_language)
    assert not known.openings
    assert np.isnan(numbers(rows, known, languages=one_language)["known_opening"]).all()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"finish_reason": "length"}, {"cut_off": 1, "failed": 0}),
        ({"finish_reason": "stop", "schema_valid": False}, {"cut_off": 0, "json_valid": 0}),
        ({"schema_valid": None}, {"json_valid": np.nan}),
        ({"answer": "I'm sorry, but I can't help."}, {"refused": 1, "answer_chars": 28}),
        ({"status": 500, "answer": None}, {"failed": 1, "answer_chars": np.nan, "cut_off": np.nan}),
        ({"status": 499, "answer": "half an ans"}, {"failed": np.nan, "answer_chars": np.nan}),
    ],
)
def test_answers(changes: dict[str, Any], expected: dict[str, float]) -> None:
    """What is watched of an answer; one that was not waited for, or failed, has gaps."""
    found = numbers(
        _watched(["hello"], **changes), Habits(None, frozenset(), frozenset()), languages=one_language
    )
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], [value], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "asked_again", "expected"),
    [
        ({"streamed": True, "status": 499}, True, (1, 1)),
        ({"streamed": True, "status": 200}, False, (0, 0)),
        ({"streamed": False, "status": 200}, None, (np.nan, np.nan)),
    ],
)
def test_signals(changes: dict[str, Any], asked_again: bool | None, expected: tuple[float, float]) -> None:
    """Only streams are abandoned, and only known subjects ask again."""
    found = signals(_watched(["hello"], asked_again=asked_again, **changes))
    np.testing.assert_array_equal([found["abandoned"][0], found["asked_again"][0]], expected)
