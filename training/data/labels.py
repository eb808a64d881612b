"""Labels: answers that are few and come again and again, and prompts that have several of them. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.normalise import normal_form
from training.data.rows import Example, Preference, Rated, Row
from training.data.texts import label
from training.evaluation.metrics import labels_of


@dataclass(frozen=True, slots=True)
class Conflict:
    """One prompt with answers that contradict each other: the places of its rows, and of those to keep.

    `votes` are what was said, as it was first written, and how often, the most frequent first.
    """

    places: tuple[int, ...]
    kept: tuple[int, ...]
    votes: tuple[tuple[str, int], ...]


def counted(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows have each label, the most frequent first; empty where answers are no labels."""
    found = [said for row in rows if (said := label(row)) is not None]
    if not found or (isinstance(rows[0], Example) and len(set(found)) > 1 and not labels_of(found)):
        return {}
    return dict(Counter(found).most_common())


def conflicts(
    rows: Sequence[Row], prompts: Sequence[str], said: Sequence[int] | None = None
) -> list[Conflict]:
    """Return the prompts whose labels, ratings or preferences contradict each other.

    `prompts` are the rows' prompts in normal form, `said` how often each row was there before its copies were
    dropped (without it, once). What most of them say is kept, and nothing where two say so equally often: of
    labels, of preferences both ways around, and of an answer that was liked and disliked. Free answers never
    contradict: a question may have several.
    """
    if not rows:
        return []
    is_labels = isinstance(rows[0], Rated) or bool(counted(rows))
    by_case: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if isinstance(row, Preference):
            both = sorted((normal_form(row.chosen), normal_form(row.rejected)))
            case: tuple[str, ...] = (prompts[place], *both)
        elif isinstance(row, Rated):
            case = (prompts[place], normal_form(row.completion))
        elif is_labels:
            case = (prompts[place],)
        else:
            return []
        by_case.setdefault(case, []).append(place)
    often = [1] * len(rows) if said is None else said
    return [
        found for places in by_case.values() if (found := _contradiction(rows, places, often)) is not None
    ]


def _contradiction(rows: Sequence[Row], places: Sequence[int], said: Sequence[int]) -> Conflict | None:
    if len(places) < 2:
        return None
    votes: Counter[str] = Counter()
    written: dict[str, str] = {}
    for place in places:
        verdict = _verdict(rows[place])
        votes[normal_form(verdict)] += said[place]
        written.setdefault(normal_form(verdict), verdict)
    if len(votes) < 2:
        return None
    (first, most), (_, second) = votes.most_common(2)
    kept = tuple(place for place in places if most > second and normal_form(_verdict(rows[place])) == first)
    return Conflict(
        tuple(places), kept, tuple((written[verdict], count) for verdict, count in votes.most_common())
    )


def _verdict(row: Row) -> str:
    return row.chosen if isinstance(row, Preference) else label(row) or ""
