"""How an answer is judged against the one that was wanted. Pure functions, one row at a time."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_LABELS = 20
MIN_ROWS_PER_LABEL = 5
MAX_LABEL_CHARS = 60


@dataclass(frozen=True, slots=True)
class Counts:
    """One row's share in a figure: accuracy is 1 or 0 over 1, F1 is 2 hits over wanted plus found."""

    numerator: float
    denominator: float = 1.0


Metric = Callable[[str, str], Counts]
"""(answer, wanted) to the row's counts."""


def normal(text: str) -> str:
    """Return a text without case, outer white space and a closing full stop."""
    return " ".join(text.casefold().split()).rstrip(".")


def exact_match(answer: str, wanted: str) -> Counts:
    """Whether the answer is the wanted one, up to case, white space and a closing full stop."""
    return Counts(float(normal(answer) == normal(wanted)))


def token_f1(answer: str, wanted: str) -> Counts:
    """The overlap of words: F1 of the row, so that the figure is the mean over rows (as SQuAD has it)."""
    found, right = _words(answer), _words(wanted)
    hits = sum((Counter(found) & Counter(right)).values())
    total = len(found) + len(right)
    return Counts(2 * hits / total if total else 1.0)


def entity_f1(answer: str, wanted: str) -> Counts:
    """The overlap of two JSON objects of lists: F1 over (key, value) pairs, summed over rows (micro)."""
    found, right = _pairs(answer), _pairs(wanted)
    return Counts(2 * len(found & right), len(found) + len(right))


def valid_json(answer: str, wanted: str) -> Counts:
    """Whether the whole answer is a JSON object with exactly the wanted keys."""
    document, expected = _object(answer), _object(wanted)
    return Counts(float(document is not None and expected is not None and set(document) == set(expected)))


METRICS: dict[str, Metric] = {
    "exact_match": exact_match,
    "accuracy": exact_match,
    "token_f1": token_f1,
    "entity_f1": entity_f1,
    "valid_json": valid_json,
}


def labels_of(answers: Sequence[str]) -> tuple[str, ...]:
    """Return the labels when the answers form a small set of them (each seen often), else nothing."""
    counts = Counter(answers)
    small = 2 <= len(counts) <= MAX_LABELS and len(answers) >= MIN_ROWS_PER_LABEL * len(counts)
    short = all(len(label) <= MAX_LABEL_CHARS for label in counts)
    return tuple(sorted(counts)) if small and short else ()


def named_label(answer: str, labels: Sequence[str]) -> str:
    """Return the label that an answer names first as a whole word or phrase, or nothing.

    Where one label is part of another (`spam`, `not spam`), the longer one counts.
    """
    text = normal(answer)
    places: list[tuple[int, int, str]] = []
    for label in labels:
        match = re.search(rf"(?<!\w){re.escape(normal(label))}(?!\w)", text)
        if match:
            places.append((match.start(), -len(label), label))
    return min(places)[2] if places else ""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _object(text: str) -> dict[str, object] | None:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _pairs(text: str) -> set[tuple[str, str]]:
    """Return (key, value) of the first JSON object in a text, so that prose around it costs nothing."""
    start, stop = text.find("{"), text.rfind("}")
    document = _object(text[start : stop + 1]) if 0 <= start < stop else None
    pairs: set[tuple[str, str]] = set()
    for key, values in (document or {}).items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and value.strip():
                pairs.add((normal(key), normal(value)))
    return pairs
