"""What a recorded request with its ratings can teach: one row, or the reason why none. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.curation import Kind, Split, row_id
from gateway.core.requests import RequestRow
from gateway.core.routes import DEMONSTRATION, Metric
from gateway.core.signals import IMPLICIT
from gateway.store.feedback import FeedbackRow
from training.data.normalise import normal_form
from training.data.rows import Message, as_text
from training.data.subjects import split_of
from training.data.traffic import MAX_TEXT_CHARS, as_messages, no_answer, no_prompt

LIKED_FROM, DISLIKED_TO = 0.75, 0.25
"""Of a number with a range: where in it liking begins, and where disliking ends. Between, it says nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be proposed. Names are those of `gateway.core.curation.CuratedRow`."""

    id: str
    request_id: str
    unit: str | None
    key_id: str
    adapter: str
    kind: Kind
    split: Split
    trusted: bool
    at: float
    messages: tuple[Message, ...]
    answer: str
    rejected: str | None = None
    other_id: str | None = None

    @property
    def prompt(self) -> str:
        """The prompt's normal form, by which two are the same."""
        return normal_form(as_text(self.messages))


def candidate(
    row: RequestRow | None,
    ratings: Sequence[FeedbackRow],
    *,
    route: str,
    metrics: Mapping[str, Metric],
    trusted_keys: frozenset[str],
) -> Candidate | str:
    """Return what a request teaches by its ratings (oldest first), or in a word why it teaches nothing.

    Of several ratings by one metric the last one counts, of a trusted key's before any other's: who may rate
    can't overrule who is trusted.
    """
    why = _refusal(row, route)
    if row is None or why:
        return why or "no_request"
    said = _said(ratings, trusted_keys)
    messages = as_messages(row.prompt or "")
    if messages is None:
        return "conversation_not_by_turns"
    shown = said.get(DEMONSTRATION)
    wanted = shown.value.strip() if shown is not None and isinstance(shown.value, str) else ""
    answer = "" if no_answer(row, MAX_TEXT_CHARS) else (row.answer or "").strip()
    if shown is not None and wanted:
        rejected = answer if answer and answer != wanted else None
        trusted = shown.key_id in trusted_keys
        return _made(row, shown, "demonstration", messages, wanted, trusted=trusted, rejected=rejected)
    judged = _judged(said, metrics)
    if judged is None:
        return "no_rating"
    rating, liked = judged
    if not answer:
        return "answer_not_whole"
    trusted = rating.key_id in trusted_keys
    return _made(row, rating, "liked" if liked else "disliked", messages, answer, trusted=trusted)


def compared(route: str, better: Mapping[str, Any], worse: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row of two answers to one prompt; None where their subjects are on different sides."""
    if better["split"] != worse["split"] or better["answer"] == worse["answer"]:
        return None
    return {
        **better,
        "id": row_id(route, "compared", better["request_id"], worse["request_id"]),
        "kind": "compared",
        "other_id": worse["request_id"],
        "rejected": worse["answer"],
        "trusted": bool(better["trusted"] and worse["trusted"]),
    }


def _refusal(row: RequestRow | None, route: str) -> str | None:
    if row is None:
        return "no_request"
    # A shadow's, an evaluation's, a load test's: whoever makes them marks them so.
    if row.internal:
        return "internal"
    if row.route != route:
        return "another_route"
    if row.prompt is None:
        return "not_captured"
    return "prompt_not_whole" if no_prompt(row, MAX_TEXT_CHARS) else None


def _said(ratings: Sequence[FeedbackRow], trusted: frozenset[str]) -> dict[str, FeedbackRow]:
    ordered = sorted(ratings, key=lambda rating: (rating.key_id in trusted, rating.id))
    return {rating.metric: rating for rating in ordered if not rating.internal}


def _judged(
    said: Mapping[str, FeedbackRow], metrics: Mapping[str, Metric]
) -> tuple[FeedbackRow, bool] | None:
    """Return the rating that says whether an answer was liked: the primary metric's, else the only one's."""
    primary = [name for name, metric in metrics.items() if metric.primary]
    names = primary or [name for name in sorted(said) if name not in IMPLICIT and name != DEMONSTRATION]
    found = []
    for name in names:
        rating = said.get(name)
        liked = None if rating is None else _liked(rating.value, metrics.get(name, Metric()))
        if rating is not None and liked is not None:
            found.append((rating, liked))
    return found[0] if len({liked for _, liked in found}) == 1 else None


def _liked(value: bool | float | str, metric: Metric) -> bool | None:
    if isinstance(value, bool):
        return value == (metric.better == "higher")
    scaled = metric.scaled(value)
    if scaled is None:
        return None
    worth = scaled if metric.better == "higher" else 1 - scaled
    if worth >= LIKED_FROM:
        return True
    return False if worth <= DISLIKED_TO else None


def _made(
    row: RequestRow,
    rating: FeedbackRow,
    kind: Kind,
    messages: tuple[Message, ...],
    answer: str,
    *,
    trusted: bool,
    rejected: str | None = None,
) -> Candidate:
    route = row.route or ""
    of = (row.id, answer) if kind == "demonstration" and trusted else (row.id,)
    return Candidate(
        id=row_id(route, kind, *of),
        request_id=row.id,
        unit=row.unit,
        key_id=rating.key_id,
        adapter=row.adapter,
        kind=kind,
        split=split_of(route, unit=row.unit, key_id=row.key_id, at=row.at),
        trusted=trusted,
        at=row.at,
        messages=messages,
        answer=answer,
        rejected=rejected,
    )
