"""From recorded requests to a run's candidates: read in pages, ranked by novelty, and chosen within caps."""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.curation import REVIEWED, row_id
from gateway.core.loop import LoopPolicy
from gateway.core.routes import Metric
from gateway.store.control import ControlStore
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests
from training.curation.candidates import Candidate, candidate, compared
from training.curation.plan import Plan
from training.curation.workbook import DONE, Workbook

PAGE = 500  # short reads: the gateway writes to the same files
MAX_RANKED = 3_000
"""So many requests are ranked by how novel they are: each takes milliseconds of a core."""

MAX_HELD_OUT = 2_000
"""New held-out rows of a run, and old ones."""

REVIEWED_AT_ONCE = 2
"""With a review, so many times the rows that are needed are proposed."""

MIN_REVIEWED = 100
"""So many held-out rows are taken for needed at least."""

Vectors = Callable[[Sequence[tuple[str, Sequence[dict[str, str]]]]], Any]
"""Returns one unit vector for each request (its id and messages)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The stores that a run reads."""

    store: ControlStore
    requests: Requests


def gather(plan: Plan, policy: LoopPolicy, sources: Sources, book: Workbook) -> None:
    """Read every rated request of the plan into the workbook, from where it stopped."""
    known = sources.store.routes.get(plan.route)
    metrics = known.spec.metrics if known else {}
    place = book.place("gather")
    if place == DONE:
        return
    after = int(place or 0)
    while page := sources.store.feedback.after(plan.route, after, until_id=plan.until_id, limit=PAGE):
        found, dropped = _page(page, after, plan, metrics, frozenset(policy.trusted_keys), sources)
        after = page[-1].id
        book.add(found, dropped, stage="gather", place=str(after))
    book.reached("gather", DONE)


def compare(plan: Plan, book: Workbook) -> None:
    """Add a row for each liked answer beside a disliked one to the same prompt."""
    if book.place("compare") == DONE:
        return
    for some in book.both_ways(size=PAGE):
        rows = book.rows([each for pair in some for each in pair])
        made = (compared(plan.route, rows[better], rows[worse]) for better, worse in some)
        book.add_compared([row for row in made if row is not None])
    book.reached("compare", DONE)


def leave_out_known(
    plan: Plan, sources: Sources, book: Workbook, learned: Callable[[Sequence[str]], set[str]]
) -> None:
    """Leave out what a person has rejected and what the champion has learned from; note what is approved.

    A demonstration is known, too, where the same was known before its key came to be trusted, or ceased to.
    """
    place = book.place("known")
    if place == DONE:
        return
    for page in book.pages(after=place or ""):
        ids = [row["id"] for row in page]
        twins = _twins(plan.route, page, sources)
        known = sources.store.curation.many([*ids, *twins.values()])
        states = {each: known[each].state for each in ids if each in known}
        reviewed = [each for each, state in states.items() if state in REVIEWED]
        states |= {each: known[twin].state for each, twin in twins.items() if each not in states}
        rejected = [each for each, state in states.items() if state == "rejected"]
        taught = learned(ids) | learned([*twins.values()])
        old = {each for each in ids if each in taught or twins.get(each) in taught} - set(rejected)
        book.mark(reviewed, {"rejected_by_a_person": rejected, "learned_already": sorted(old)}, place=ids[-1])
    book.reached("known", DONE)


def _twins(route: str, page: Sequence[sqlite3.Row], sources: Sources) -> dict[str, str]:
    """Return by the id of a demonstration that of the stored row that says the same under its other id."""
    shown = [row for row in page if row["kind"] == "demonstration"]
    others = {
        row["id"]: row_id(
            route, "demonstration", row["request_id"], *(() if row["trusted"] else [row["answer"]])
        )
        for row in shown
    }
    known = sources.store.curation.many([*others.values()])
    answers = {row["id"]: row["answer"] for row in shown}
    return {
        each: other
        for each, other in others.items()
        if other in known and known[other].answer == answers[each]
    }


def rank(book: Workbook, reference: Any, vectors: Vectors, *, most: int = MAX_RANKED) -> None:
    """Store how far prompts are from those that the champion was trained on: 1 minus the largest cosine."""
    if book.place("novelty") == DONE:
        return
    rows = book.unranked(most)
    for at in range(0, len(rows), PAGE):
        some = [(row["request_id"], json.loads(row["messages"])) for row in rows[at : at + PAGE]]
        nearest = (vectors(some) @ reference.T).max(axis=1)
        novelty = {key: round(float(1 - near), 6) for (key, _), near in zip(some, nearest, strict=True)}
        book.set_novelty(novelty, place=str(at))
    book.reached("novelty", DONE)


def choose(plan: Plan, policy: LoopPolicy, book: Workbook) -> None:
    """Choose candidates in their order, so many of a subject and of a key at most; copies once.

    A pair of answers counts for the subjects and keys of both: neither half gets past its cap with the other.
    Of traffic from before the change some are chosen as well, to be replayed and judged by as old ones.
    """
    if book.place("choose") == DONE:
        return
    dropped: Counter[str] = Counter()
    ids: list[str] = []
    for split, old, most in _quotas(policy):
        since, before = (0.0, plan.new_since) if old else (plan.new_since, math.inf)
        ids += _chosen(book.ordered(split, since=since, before=before), most, policy, dropped)
    book.choose(ids, dropped)


def _quotas(policy: LoopPolicy) -> list[tuple[str, bool, int]]:
    """Return by split and age how many rows are proposed at most.

    Where people look at each row, not many more are proposed than are needed, and no old ones.
    """
    most, held_out = policy.max_examples, MAX_HELD_OUT
    replayed = math.ceil(most * policy.replay_share)
    if policy.review:
        most = min(most, REVIEWED_AT_ONCE * policy.min_new_examples)
        held_out = min(held_out, REVIEWED_AT_ONCE * max(MIN_REVIEWED, policy.min_trusted_held_out))
        replayed = 0
    old_held_out = 0 if policy.review else MAX_HELD_OUT
    return [
        ("train", False, most),
        ("held_out", False, held_out),
        ("train", True, replayed),
        ("held_out", True, old_held_out),
    ]


def _chosen(
    rows: Iterable[sqlite3.Row], most: int, policy: LoopPolicy, dropped: Counter[str]
) -> Iterator[str]:
    by_unit: Counter[str] = Counter()
    by_key: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    left = most
    for row in rows:
        said = (row["prompt"], row["kind"], row["said"])
        units = {each for each in (row["unit"], row["other_unit"]) if each}
        keys = {each for each in (row["key_id"], row["other_key_id"]) if each}
        why = None
        if left <= 0:
            why = "over_the_most"
        elif said in seen:
            why = "copy"
        elif any(by_unit[each] >= policy.cap_per_subject for each in units):
            why = "cap_per_subject"
        elif any(by_key[each] >= policy.cap_per_key for each in keys):
            why = "cap_per_key"
        if why is not None:
            dropped[why] += 1
            continue
        seen.add(said)
        by_key.update(keys)
        by_unit.update(units)
        left -= 1
        yield row["id"]


def _page(  # noqa: PLR0917 - what a page is read with
    page: Sequence[FeedbackRow],
    after: int,
    plan: Plan,
    metrics: dict[str, Metric],
    trusted: frozenset[str],
    sources: Sources,
) -> tuple[list[Candidate], Counter[str]]:
    ids = list(dict.fromkeys(row.request_id for row in page))
    ratings: dict[str, list[FeedbackRow]] = {}
    for rating in sources.store.feedback.of(ids, until_id=plan.until_id):
        ratings.setdefault(rating.request_id, []).append(rating)
    rows = sources.requests.many(ids)
    found: list[Candidate] = []
    dropped: Counter[str] = Counter()
    for each in ids:
        said = ratings.get(each, [])
        if not said or said[0].id <= after:  # forgotten meanwhile, or looked at with its first rating
            continue
        made = candidate(
            rows.get(each),
            said,
            route=plan.route,
            metrics=metrics,
            trusted_keys=trusted,
            max_text_chars=plan.max_text_chars,
        )
        if isinstance(made, str):
            dropped[made] += 1
        else:
            found.append(made)
    return found, dropped
