"""Which languages texts are in, by py3langid: a naive Bayes classifier over bytes, without a network."""

from collections import Counter
from collections.abc import Sequence

MIN_LETTERS = 20
MAX_CHARS = 400
SHORT = "too short"


class LanguagesUnavailable(Exception):
    """The library that tells languages apart is not installed."""


def languages(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the ISO 639-1 code of each text by its first 400 characters; `too short` below 20 letters.

    Raises:
        LanguagesUnavailable: `py3langid` is not installed.
    """
    try:
        from py3langid.langid import classify  # noqa: PLC0415 - unpacks its model: only when used
    except ImportError as error:
        raise LanguagesUnavailable("py3langid is not installed; install turnout[training]") from error
    return tuple(
        str(classify(text[:MAX_CHARS])[0])
        if sum(map(str.isalpha, text[:MAX_CHARS])) >= MIN_LETTERS
        else SHORT
        for text in texts
    )


def mix(found: Sequence[str]) -> dict[str, int]:
    """Return how many texts are in each language, the most frequent first."""
    return dict(Counter(found).most_common())
