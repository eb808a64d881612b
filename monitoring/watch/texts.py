"""What a text alone says of itself: words, its opening, structure, refusals, repetition. Pure."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W\d_]{2,}")
_OPENING_CHARS = 48
_LEAST_LANGUAGE_CHARS = 20
_GRAM = 4
_LEAST_GRAMS = 8

_REFUSAL = re.compile(
    r"\b(?:i(?:'|\u2019)?m (?:very |so )?sorry,? (?:but )?i (?:can(?:no|')?t|am (?:not able|unable))"
    r"|i(?:'|\u2019)?m (?:not able|unable) to|i am (?:not able|unable) to"
    r"|i can(?:no|'|\u2019)?t (?:help|assist|do that|comply|provide|answer|fulfil)"
    r"|i (?:won(?:'|\u2019)t|will not) (?:help|assist|provide|answer)"
    r"|as an ai(?: language model)?,? i|i must (?:decline|refuse)|i have to decline"
    r"|ich kann (?:ihnen |dir )?(?:dabei |damit )?(?:leider )?nicht|je ne peux pas (?:vous |t)"
    r"|lo siento,? (?:pero )?no puedo|mi dispiace,? (?:ma )?non posso)",
    re.IGNORECASE,
)
_REFUSAL_WITHIN_CHARS = 240
"""A refusal stands at the beginning; further on the words are mostly about something else."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; numbers, signs and single letters are none."""
    return [word.casefold() for word in _WORD.findall(text)]


def opening(text: str) -> str:
    """Return how a text begins, with any number as 0 and spaces as one: the same in one template."""
    head = text[: 4 * _OPENING_CHARS].casefold()
    return re.sub(r"\d+", "0", " ".join(head.split()))[:_OPENING_CHARS]


def lines(text: str) -> float:
    """Return how many lines a text has."""
    return float(text.count("\n") + 1)


def signs(text: str) -> float:
    """Return the share of a text's characters that are neither letters, digits nor spaces: its formatting."""
    marks = sum(not (each.isalnum() or each.isspace()) for each in text)
    return marks / len(text) if text else float("nan")


def digits(text: str) -> float:
    """Return the share of a text's characters that are digits."""
    return sum(map(str.isdigit, text)) / len(text) if text else float("nan")


def refusal(answer: str) -> float:
    """Return 1 when an answer begins with words that models refuse by, else 0.

    A list of phrases, in the languages that they are of: it counts most refusals and knows no manners.
    """
    return float(_REFUSAL.search(answer[:_REFUSAL_WITHIN_CHARS]) is not None)


def repetition(answer: str) -> float:
    """Return the share of an answer's runs of four words that came before in it; NaN for short answers."""
    said = words(answer)
    grams = [tuple(said[start : start + _GRAM]) for start in range(len(said) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= _LEAST_GRAMS else float("nan")


def languages(texts: Sequence[str]) -> list[str | None]:
    """Return the language of each text as ISO 639-1 says it; None for texts too short to tell.

    Raises:
        ImportError: py3langid is missing (of the `monitoring` extra).
    """
    from py3langid.langid import classify  # noqa: PLC0415 - loads its model

    return [str(classify(text)[0]) if len(text.strip()) >= _LEAST_LANGUAGE_CHARS else None for text in texts]
