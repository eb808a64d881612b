"""Recorded requests as the numbers that are watched, and what of the reference those need to know.

Prompts: length, language, vocabulary, opening, lines, signs, digits. Answers: length, refusals, cut-offs,
JSON validity, repetition, failures. What their subjects did then: left, or asked again (`SIGNALS`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gateway.store.traffic import Watched
from monitoring.detector.levels import BLOCK_ROWS
from monitoring.permutation import FloatArray
from monitoring.watch import texts

Languages = Callable[[Sequence[str]], list[str | None]]

PROMPTS = (
    "prompt_chars",
    "prompt_lines",
    "prompt_signs",
    "prompt_digits",
    "main_language",
    "new_words",
    "known_opening",
)
ANSWERS = ("answer_chars", "refused", "cut_off", "json_valid", "repetition", "failed")
SIGNALS = ("abandoned", "asked_again")

_MOST_WORDS = 50_000
_LEAST_SHARE_OF_AN_OPENING = 0.02
_MOST_OPENINGS = 200
_GONE = 499
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Habits:
    """What the reference's prompts have in common: their main language, their words, how they begin.

    Words and openings are those of the rows of `teaching`, a fifth. Their own columns are NaN in the
    reference, so that what is new to the rest is as new as what comes later. No openings: the prompts have no
    template.
    """

    language: str | None
    words: frozenset[str]
    openings: frozenset[str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "language": self.language,
            "words": sorted(self.words),
            "openings": sorted(self.openings),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what `document` was made of."""
        return cls(document["language"], frozenset(document["words"]), frozenset(document["openings"]))


def teaching(rows: Sequence[Watched]) -> list[bool]:
    """Return which rows of the reference words and openings are learned from: about one in five.

    A subject's rows all teach or none does, and rows without a subject go by runs of consecutive ones, as
    in `calibrate`: a session's other rows know its words, which those of a later session don't.
    """
    runs = [_lot(rows[first].row.id) for first in range(0, len(rows), BLOCK_ROWS)]
    highest = sorted(runs)[(len(runs) - 1) // 5] if runs else b""
    return [
        runs[place // BLOCK_ROWS] <= highest if each.row.unit is None else _lot(each.row.unit)[0] < 51
        for place, each in enumerate(rows)
    ]


def habits(rows: Sequence[Watched], *, languages: Languages) -> Habits:
    """Learn from the reference."""
    taught = zip(rows, teaching(rows), strict=True)
    prompts = [each.row.prompt or "" for each, teaches in taught if teaches]
    spoken = Counter(language for language in languages(prompts) if language is not None)
    said = Counter(word for prompt in prompts for word in set(texts.words(prompt)))
    begun = Counter(texts.opening(prompt) for prompt in prompts)
    least = max(2, _LEAST_SHARE_OF_AN_OPENING * len(prompts))
    common = [(opening, count) for opening, count in begun.most_common(_MOST_OPENINGS) if count >= least]
    return Habits(
        language=spoken.most_common(1)[0][0] if spoken else None,
        words=frozenset(word for word, _ in said.most_common(_MOST_WORDS)),
        openings=frozenset(opening for opening, _ in common),
    )


def numbers(
    rows: Sequence[Watched], known: Habits, *, languages: Languages, learning: bool = False
) -> dict[str, FloatArray]:
    """Return the columns of `PROMPTS` and `ANSWERS`. `learning`: these rows are the reference's own."""
    prompts = [each.row.prompt or "" for each in rows]
    spoken = languages(prompts)
    blind = teaching(rows) if learning else [False] * len(rows)
    columns: dict[str, list[float]] = {
        "prompt_chars": [float(len(prompt)) for prompt in prompts],
        "prompt_lines": [texts.lines(prompt) for prompt in prompts],
        "prompt_signs": [texts.signs(prompt) for prompt in prompts],
        "prompt_digits": [texts.digits(prompt) for prompt in prompts],
        "main_language": [
            _NAN if language is None or known.language is None else float(language == known.language)
            for language in spoken
        ],
        "new_words": [
            _NAN if hidden else _new_words(prompt, known)
            for prompt, hidden in zip(prompts, blind, strict=True)
        ],
        "known_opening": [
            _NAN if hidden or not known.openings else float(texts.opening(prompt) in known.openings)
            for prompt, hidden in zip(prompts, blind, strict=True)
        ],
    }
    answers = [_answer(each) for each in rows]
    columns |= {name: [answer[name] for answer in answers] for name in ANSWERS}
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


def signals(rows: Sequence[Watched]) -> dict[str, FloatArray]:
    """Return the columns of `SIGNALS`: 1 where it happened, NaN where it can't be told."""
    left = [float(each.row.status == _GONE) if _streamed(each) else _NAN for each in rows]
    again = [_NAN if each.asked_again is None else float(each.asked_again) for each in rows]
    return {"abandoned": np.array(left, dtype=np.float64), "asked_again": np.array(again, dtype=np.float64)}


def times(rows: Sequence[Watched]) -> FloatArray:
    """Return when each request came."""
    return np.array([each.row.at for each in rows], dtype=np.float64)


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _streamed(each: Watched) -> bool:
    return each.row.streamed and each.row.status in (200, _GONE)


def _new_words(prompt: str, known: Habits) -> float:
    said = texts.words(prompt)
    return sum(word not in known.words for word in said) / len(said) if said else _NAN


def _answer(each: Watched) -> dict[str, float]:
    """Return what is watched of an answer. One that a client did not wait for, or none, says nothing."""
    row = each.row
    whole = row.status == 200
    text = row.answer if whole else None
    return {
        "answer_chars": _NAN if text is None else float(len(text)),
        "refused": _NAN if text is None else texts.refusal(text),
        "cut_off": float(row.finish_reason == "length") if whole and row.finish_reason else _NAN,
        "json_valid": _NAN if row.schema_valid is None or not whole else float(row.schema_valid),
        "repetition": _NAN if text is None else texts.repetition(text),
        "failed": _NAN if row.status == _GONE else float(row.status >= 500),
    }
