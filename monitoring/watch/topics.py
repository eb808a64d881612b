"""The prompts that are least like the reference, grouped into topics with words and a few rows each. Pure.

People look before they retrain: a topic says what came that was not there before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.permutation import FloatArray
from monitoring.watch.vectors import VectorArray

SHARE = 0.2
"""So much of the current prompts is looked at, those that are least like the reference."""

_LEAST, _MOST = 10, 400
_ROWS_OF_A_TOPIC = 10
_MOST_TOPICS = 6
_EXAMPLES = 4
_WORDS = 8
_SEED = 0
_PARTS = 20
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")
_SHOWN_CHARS = 600


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of prompts: its `share` of all current prompts, and `rows`, places in the current window."""

    words: tuple[str, ...]
    share: float
    rows: tuple[int, ...]

    def document(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return it as JSON, with requests' ids and no text of theirs."""
        return {"words": list(self.words), "share": self.share, "requests": [ids[row] for row in self.rows]}


def novelty(reference: VectorArray, current: VectorArray) -> tuple[FloatArray, FloatArray]:
    """Return for each row how much more it resembles the current rows than the reference's (itself left out).

    The witness of the difference of the two means: first the reference's rows', then the current rows'.
    """

    def likeness(rows: VectorArray, others: VectorArray) -> FloatArray:
        total = others.sum(axis=0, dtype=np.float64)
        itself = np.einsum("ij,ij->i", rows, rows) if rows is others else 0.0
        found: FloatArray = (rows @ total - itself) / max(1, len(others) - (rows is others))
        return found

    return (
        likeness(reference, current) - likeness(reference, reference),
        likeness(current, current) - likeness(current, reference),
    )


def topics(
    reference: VectorArray, current: VectorArray, texts: Sequence[str], *, known: Sequence[str]
) -> list[Topic]:
    """Return the groups that the most novel current prompts fall into, the largest first.

    `texts` are the current prompts and `known` the reference's. Few rows have no topics.
    """
    count = min(_MOST, int(len(current) * SHARE))
    if count < _LEAST or not len(reference):
        return []
    chosen = np.argsort(-novelty(reference, current)[1], kind="stable")[:count]
    groups = _groups(current[chosen])
    words = _words([texts[row] for row in chosen], groups, known=known)
    found = []
    for group in range(int(groups.max()) + 1):
        mine = np.flatnonzero(groups == group)
        vectors = current[chosen[mine]]
        central = np.argsort(-(vectors @ vectors.mean(axis=0)), kind="stable")[:_EXAMPLES]
        rows = tuple(int(chosen[mine[place]]) for place in central)
        found.append(Topic(words[group], len(mine) / len(current), rows))
    return sorted(found, key=lambda topic: -topic.share)


def shown(text: str) -> str:
    """Return as much of a text as a report shows of it."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _groups(vectors: VectorArray) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - a second to import, and only a report needs it

    distinct = len(np.unique(vectors, axis=0))
    count = max(1, min(_MOST_TOPICS, len(vectors) // _ROWS_OF_A_TOPIC, distinct))
    labels = KMeans(count, n_init=4, random_state=_SEED).fit_predict(vectors)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _words(texts: Sequence[str], groups: NDArray[np.int64], *, known: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of each group that say most about it, by TF-IDF.

    Documents are the groups and parts of the reference: a word that is everywhere there says nothing.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - as above

    count = int(groups.max()) + 1
    documents = [
        " ".join(text for text, mine in zip(texts, groups, strict=True) if mine == group)
        for group in range(count)
    ]
    documents += [" ".join(known[part::_PARTS]) for part in range(_PARTS)]
    model = TfidfVectorizer(tokenizer=_LONG_WORD.findall, token_pattern=None, sublinear_tf=True)
    try:
        weights = model.fit_transform(documents).toarray()[:count]
    except ValueError:  # not one word
        return [() for _ in range(count)]
    names = model.get_feature_names_out()
    return [
        tuple(str(names[place]) for place in np.argsort(-row, kind="stable")[:_WORDS] if row[place] > 0)
        for row in weights
    ]
