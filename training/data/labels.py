"""Labels: answers that are few and come again and again, and prompts that have several of them. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.rows import Example, Preference, Rated, Row
from training.data.texts import label
from training.evaluation.metrics import labels_of


@dataclass(frozen=True, slots=True)
class Conflict:
    """One prompt with answers that contradict each other: the places of its rows, and of those to keep."""

    places: tuple[int, ...]
    kept: tuple[int, ...]
    said: str


def counted(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows have each label, the most frequent first; empty where answers are no labels."""
    found = [said for row in rows if (said := label(row)) is not None]
    if not found or (isinstance(rows[0], Example) and len(set(found)) > 1 and not labels_of(found)):
        return {}
    return dict(Counter(found).most_common())


def conflicts(rows: Sequence[Row], prompts: Sequence[str]) -> list[Conflict]:
    """Return the prompts whose labels, ratings or preferences contradict each other.

    `prompts` are the rows' prompts in normal form. The label of most of a prompt's rows is kept, and none
    where two are the most frequent; of preferences both ways around, and of an answer that was liked and
    disliked equally often, none. Free answers never contradict: a question may have several.
    """
    if not rows:
        return []
    is_labels = isinstance(rows[0], Rated) or bool(counted(rows))
    by_case: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if isinstance(row, Preference):
            case: tuple[str, ...] = (prompts[place], *sorted((row.chosen, row.rejected)))
        elif isinstance(row, Rated):
            case = (prompts[place], row.completion)
        elif is_labels:
            case = (prompts[place],)
        else:
            return []
        by_case.setdefault(case, []).append(place)
    return [found for places in by_case.values() if (found := _contradiction(rows, places)) is not None]


def _contradiction(rows: Sequence[Row], places: Sequence[int]) -> Conflict | None:
    votes = Counter(_verdict(rows[place]) for place in places)
    if len(votes) < 2:
        return None
    (first, most), (_, second) = votes.most_common(2)
    kept = tuple(place for place in places if most > second and _verdict(rows[place]) == first)
    return Conflict(
        tuple(places), kept, ", ".join(f"{count}x {said:.40}" for said, count in votes.most_common(5))
    )


def _verdict(row: Row) -> str:
    return row.chosen if isinstance(row, Preference) else label(row) or ""
