"""What failing rows have in common: words, lengths, wanted answers and fields, beside all other rows. Pure.

Words are weighed by TF-IDF (Spärck Jones, Journal of Documentation 28, 1972; Salton and Buckley, 1988): the
mean weight among failing rows minus that among the others. How sure a word is comes from Fisher's exact test
of the rows that have it, times the number of words that were looked at (Bonferroni): a rare word that happens
to be in three failing rows is no finding.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from training.data.rows import Example
from training.gate.rows import OWN

MIN_FAILING = 3
MAX_WORDS = 8
MAX_SHARES = 5
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the prompts: its share of the failing rows and of the others, and its corrected p-value."""

    word: str
    failing: float
    others: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Share:
    """A wanted answer or a field's value: its share of the failing rows and of all rows."""

    name: str
    failing: float
    all: float


@dataclass(frozen=True, slots=True)
class Common:
    """What is over-represented among failing rows. Lengths are medians, in characters of the prompt."""

    failing: int
    rows: int
    length_failing: float
    length_others: float
    words: tuple[Word, ...]
    answers: tuple[Share, ...]
    fields: tuple[Share, ...]


def common(rows: Sequence[Example], failing: Sequence[bool]) -> Common | None:
    """Return what failing rows have in common, or None where there are too few of them, or of the others."""
    bad = [row for row, fails in zip(rows, failing, strict=True) if fails]
    good = [row for row, fails in zip(rows, failing, strict=True) if not fails]
    if min(len(bad), len(good)) < MIN_FAILING:
        return None
    return Common(
        failing=len(bad),
        rows=len(rows),
        length_failing=median(len(_text(row)) for row in bad),
        length_others=median(len(_text(row)) for row in good),
        words=_words(bad, good),
        answers=_shares([row.completion[:60] for row in bad], [row.completion[:60] for row in rows]),
        fields=_shares(
            [value for row in bad for value in _fields(row)],
            [value for row in rows for value in _fields(row)],
            of=(len(bad), len(rows)),
        ),
    )


def _words(bad: Sequence[Example], good: Sequence[Example]) -> tuple[Word, ...]:
    texts = [_counted(row) for row in (*bad, *good)]
    holding = Counter(word for text in texts for word in text)
    in_bad = Counter(word for text in texts[: len(bad)] for word in text)
    known = [word for word, count in in_bad.items() if count >= MIN_FAILING and holding[word] < len(texts)]
    weights = {word: math.log((1 + len(texts)) / (1 + holding[word])) + 1 for word in holding}
    means = _mean_weights(texts[: len(bad)], weights), _mean_weights(texts[len(bad) :], weights)
    apart = {word: means[0].get(word, 0.0) - means[1].get(word, 0.0) for word in known}
    first = sorted((word for word in known if apart[word] > 0), key=lambda word: (-apart[word], word))
    return tuple(
        Word(
            word,
            in_bad[word] / len(bad),
            (holding[word] - in_bad[word]) / len(good),
            min(1.0, len(known) * fisher(in_bad[word], len(bad), holding[word], len(texts))),
        )
        for word in first[:MAX_WORDS]
    )


def fisher(hits: int, drawn: int, marked: int, total: int) -> float:
    """Return the chance of `hits` or more marked rows among `drawn` of `total`, of which `marked` are."""
    most = min(drawn, marked)
    ways = sum(
        math.comb(marked, count) * math.comb(total - marked, drawn - count) for count in range(hits, most + 1)
    )
    return float(ways / math.comb(total, drawn))


def _mean_weights(texts: Sequence[Mapping[str, int]], weights: Mapping[str, float]) -> dict[str, float]:
    """Return each word's mean TF-IDF weight, every text scaled to length 1."""
    sums: dict[str, float] = {}
    for text in texts:
        own = {word: (1 + math.log(count)) * weights[word] for word, count in text.items()}
        norm = math.sqrt(sum(value**2 for value in own.values())) or 1.0
        for word, value in own.items():
            sums[word] = sums.get(word, 0.0) + value / norm
    return {word: value / len(texts) for word, value in sums.items()}


def _shares(
    bad: Sequence[str], every: Sequence[str], *, of: tuple[int, int] | None = None
) -> tuple[Share, ...]:
    """Return the values that are commoner among the failing, those that are the most so first."""
    failing, rows = of or (len(bad), len(every))
    inside, whole = Counter(bad), Counter(every)
    found = [Share(name, count / failing, whole[name] / rows) for name, count in inside.items()]
    over = [share for share in found if share.failing > share.all]
    return tuple(sorted(over, key=lambda share: (share.all - share.failing, share.name))[:MAX_SHARES])


def _fields(row: Example) -> list[str]:
    return [f"{name} = {value[:60]}" for name, value in row.columns.items() if name not in OWN]


def _counted(row: Example) -> Counter[str]:
    return Counter(_WORD.findall(_text(row).casefold()))


def _text(row: Example) -> str:
    return "\n".join(message["content"] for message in row.messages if message["role"] != "system")
