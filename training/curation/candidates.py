"""What a recorded request with its ratings can teach: one row, or the reason why none. Pure."""

from collections.abc import Iterable, Mapping, Sequence
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
from training.data.traffic import as_messages, no_answer, no_prompt

LIKED_FROM, DISLIKED_TO = 0.75, 0.25
"""Of a number with a range: where in it liking begins, and where disliking ends. Between, it says nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be proposed. Names are those of `gateway.core.curation.CuratedRow`.

    `other_key_id` is the key whose feedback the worse answer of a pair rests on.
    """

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
    other_unit: str | None = None
    other_key_id: str | None = None

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
    max_text_chars: int,
) -> Candidate | str:
    """Return what a request teaches by its ratings (oldest first), or in a word why it teaches nothing.

    Of several ratings by one metric the last one counts. Where a trusted key says what the answer is worth,
    or what it should have been, nobody else is heard: who may rate can't overrule who is trusted. Texts of
    `max_text_chars` characters were cut when they were recorded.
    """
    why = _refusal(row, route, max_text_chars)
    if row is None or why:
        return why or "no_request"
    said = _said(ratings, metrics, trusted_keys)
    messages = as_messages(row.prompt or "")
    if messages is None:
        return "conversation_not_by_turns"
    shown = said.get(DEMONSTRATION)
    answer = "" if no_answer(row, max_text_chars) else (row.answer or "").strip()
    if shown is not None and (wanted := _text(shown)):
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
        "other_unit": worse["unit"],
        "other_key_id": worse["key_id"],
        "rejected": worse["answer"],
        "trusted": bool(better["trusted"] and worse["trusted"]),
    }


def _refusal(row: RequestRow | None, route: str, max_text_chars: int) -> str | None:
    if row is None:
        return "no_request"
    # A shadow's, an evaluation's, a load test's: whoever makes them marks them so.
    if row.internal:
        return "internal"
    if row.route != route:
        return "another_route"
    if row.prompt is None:
        return "not_captured"
    return "prompt_not_whole" if no_prompt(row, max_text_chars) else None


def _said(
    ratings: Sequence[FeedbackRow], metrics: Mapping[str, Metric], trusted: frozenset[str]
) -> dict[str, FeedbackRow]:
    """Return the rating that counts by metric: trusted keys' alone where one of them says what teaches."""
    ordered = sorted(ratings, key=lambda rating: (rating.key_id in trusted, rating.id))
    heard = [rating for rating in ordered if not rating.internal]
    theirs = {rating.metric: rating for rating in heard if rating.key_id in trusted}
    shown = theirs.get(DEMONSTRATION)
    if (shown is not None and _text(shown)) or _verdicts(theirs, metrics):
        return theirs
    return {rating.metric: rating for rating in heard}


def _text(shown: FeedbackRow) -> str:
    """Return the answer that a demonstration wants; empty where it says none."""
    return shown.value.strip() if isinstance(shown.value, str) else ""


def _judged(
    said: Mapping[str, FeedbackRow], metrics: Mapping[str, Metric]
) -> tuple[FeedbackRow, bool] | None:
    """Return the rating that says whether an answer was liked; None where they contradict each other."""
    found = _verdicts(said, metrics)
    return found[0] if len({liked for _, liked in found}) == 1 else None


def _verdicts(
    said: Mapping[str, FeedbackRow], metrics: Mapping[str, Metric]
) -> list[tuple[FeedbackRow, bool]]:
    """Return what ratings say of an answer: by the primary metric, else by those that the route declares.

    Where it declares none, by any: clients name metrics as they like.
    """
    primary = [name for name, metric in metrics.items() if metric.primary]
    names = primary or _told_by(metrics) or _told_by(said)
    found = []
    for name in names:
        rating = said.get(name)
        liked = None if rating is None else _liked(rating.value, metrics.get(name, Metric()))
        if rating is not None and liked is not None:
            found.append((rating, liked))
    return found


def _told_by(names: Iterable[str]) -> list[str]:
    """Return the metrics that people rate by: neither signals of ours nor demonstrations."""
    return sorted(name for name in names if name not in IMPLICIT and name != DEMONSTRATION)


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
