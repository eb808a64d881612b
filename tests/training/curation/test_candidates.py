"""What one recorded request can teach."""

from typing import Any

import pytest

from gateway.core.requests import RequestRow
from gateway.core.routes import Metric
from gateway.store.feedback import FeedbackRow
from training.curation.candidates import Candidate, candidate, compared
from training.data.subjects import split_of

TRUSTED = frozenset({"owner"})


def request(**changes: Any) -> RequestRow:
    """One recorded request."""
    plain: dict[str, Any] = {
        "id": "req-1", "at": 10.0, "endpoint": "chat/completions", "key_id": "app", "route": "support",
        "adapter": "support@1", "status": 200, "finish_reason": "stop", "prompt": "hi", "answer": "ho",
    }  # fmt: skip
    return RequestRow(**{**plain, **changes})


def rating(
    number: int, metric: str, value: bool | float | str, key: str = "people", **more: Any
) -> FeedbackRow:
    """One rating."""
    return FeedbackRow("req-1", "support", "support@1", None, metric, value, None, key, id=number, **more)


def made(row: RequestRow | None, *ratings: FeedbackRow, **metrics: Metric) -> Candidate | str:
    """What they make."""
    return candidate(row, ratings, route="support", metrics=metrics, trusted_keys=TRUSTED)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "no_request"),
        (request(internal=True), "internal"),
        (request(route="other"), "another_route"),
        (request(prompt=None), "not_captured"),
        (request(prompt="  "), "prompt_not_whole"),
        (request(endpoint="completions"), "prompt_not_whole"),
        (request(prompt="x" * 8000), "prompt_not_whole"),
        (request(prompt="user: a\ntool: b\nuser: c"), "conversation_not_by_turns"),
        (request(finish_reason="length"), "answer_not_whole"),
        (request(status=499), "answer_not_whole"),
    ],
)
def test_what_teaches_nothing_says_why(row: RequestRow | None, said: str) -> None:
    """Internal traffic above all: shadows, probes, evaluations and load tests are marked so."""
    assert made(row, rating(1, "thumbs", value=True)) == said


@pytest.mark.parametrize(
    ("ratings", "kind", "answer"),
    [
        ([rating(1, "thumbs", value=True)], "liked", "ho"),
        ([rating(1, "thumbs", value=False)], "disliked", "ho"),
        ([rating(1, "thumbs", value=True), rating(2, "thumbs", value=False)], "disliked", "ho"),
        ([rating(1, "thumbs", value=False), rating(2, "demonstration", " ha ")], "demonstration", "ha"),
        ([rating(1, "thumbs", value=True, key="owner"), rating(2, "thumbs", value=False)], "liked", "ho"),
    ],
)
def test_the_last_rating_counts_and_a_trusted_keys_before_any_other(
    ratings: list[FeedbackRow], kind: str, answer: str
) -> None:
    """A demonstration says more than a thumb; who may rate does not overrule who is trusted."""
    found = made(request(), *ratings)
    assert isinstance(found, Candidate)
    assert (found.kind, found.answer) == (kind, answer)
    assert found.trusted is (ratings[0].key_id == "owner")


def test_a_demonstration_stands_for_an_answer_that_was_cut() -> None:
    """And has nothing beside it to be better than."""
    found = made(request(finish_reason="length"), rating(1, "demonstration", "whole"))
    assert isinstance(found, Candidate)
    assert found.rejected is None


@pytest.mark.parametrize(
    ("metric", "value", "kind"),
    [
        (Metric(primary=True, better="lower"), True, "disliked"),
        (Metric(type="number", range=(1, 5), primary=True), 5, "liked"),
        (Metric(type="number", range=(1, 5), primary=True), 1, "disliked"),
        (Metric(type="number", range=(1, 5), primary=True), 3, None),
    ],
)
def test_ratings_are_read_as_the_route_declares_them(metric: Metric, value: float, kind: str | None) -> None:
    """The primary metric decides; what lies between says nothing."""
    found = made(request(), rating(1, "m", value), rating(2, "other", value=True), m=metric)
    assert (found.kind if isinstance(found, Candidate) else None) == kind
    assert isinstance(found, Candidate) or found == "no_rating"


def test_ratings_that_contradict_each_other_say_nothing() -> None:
    """Without a primary metric none is preferred."""
    assert made(request(), rating(1, "a", value=True), rating(2, "b", value=False)) == "no_rating"
    assert made(request(), rating(1, "asked_again", value=True)) == "no_rating"
    assert made(request(), rating(1, "thumbs", value=True, internal=True)) == "no_rating"


def test_a_subject_is_on_one_side_for_ever() -> None:
    """Whenever it asks, and by whatever key; without a subject, a key's requests of an hour go together."""
    sides = {split_of("r", unit="u", key_id=key, at=at) for key in "ab" for at in (0.0, 1e6, 1e9)}
    assert len(sides) == 1
    hours = [split_of("r", unit=None, key_id="k", at=3600.0 * hour) for hour in range(400)]
    assert 0.1 < hours.count("held_out") / 400 < 0.3
    within = {split_of("r", unit=None, key_id="k", at=7200.0 + second) for second in range(0, 3600, 60)}
    assert len(within) == 1


def test_two_answers_are_compared_on_one_side_only() -> None:
    """A pair is trusted as far as both are."""
    better = {"id": "a", "request_id": "r1", "split": "train", "answer": "x", "trusted": 1, "kind": "liked"}
    worse = {**better, "id": "b", "request_id": "r2", "answer": "y", "trusted": 0}
    found = compared("support", better, worse)
    assert found is not None
    assert (found["kind"], found["rejected"], found["other_id"], found["trusted"]) == (
        "compared",
        "y",
        "r2",
        False,
    )
    assert compared("support", better, {**worse, "split": "held_out"}) is None
    assert compared("support", better, {**worse, "answer": "x"}) is None
