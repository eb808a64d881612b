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


def made(
    row: RequestRow | None, *ratings: FeedbackRow, cut_at: int = 8000, **metrics: Metric
) -> Candidate | str:
    """What they make."""
    return candidate(
        row, ratings, route="support", metrics=metrics, trusted_keys=TRUSTED, max_text_chars=cut_at
    )


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
    ("texts", "cut_at", "said"),
    [
        ({"answer": "x" * 200}, 200, "answer_not_whole"),
        ({"prompt": "x" * 200}, 200, "prompt_not_whole"),
        ({"answer": "x" * 199}, 200, "liked"),
        ({"prompt": "x" * 9000, "answer": "x" * 9000}, 16_000, "liked"),
        ({}, 0, "prompt_not_whole"),
    ],
)
def test_what_the_fleet_has_cut_is_not_whole(texts: dict[str, str], cut_at: int, said: str) -> None:
    """The fleet's own length tells: shorter texts may be cut, and longer ones whole."""
    found = made(request(**texts), rating(1, "thumbs", value=True), cut_at=cut_at)
    assert (found.kind if isinstance(found, Candidate) else found) == said


BOOL = Metric()
PRIMARY = Metric(primary=True)
STARS = Metric(type="number", range=(1, 5), primary=True)


@pytest.mark.parametrize(
    ("owner", "stranger", "metrics", "kind"),
    [
        (("thumbs", True), ("demonstration", "poison"), {"thumbs": PRIMARY}, "liked"),
        (("thumbs", False), ("demonstration", "poison"), {}, "disliked"),
        (("demonstration", "right"), ("demonstration", "poison"), {}, "demonstration"),
        (("thumbs", True), ("x", False), {}, "liked"),
        (("thumbs", True), ("aaa", True), {}, "liked"),
        (("thumbs", True), ("stars", False), {"thumbs": BOOL, "stars": BOOL}, "liked"),
    ],
)
def test_nobody_overrules_who_is_trusted(
    owner: tuple[str, Any], stranger: tuple[str, Any], metrics: dict[str, Metric], kind: str
) -> None:
    """Neither by a demonstration nor by another metric, whoever was first; nor takes anybody its trust."""
    for order in ((1, 2), (2, 1)):
        theirs, others = rating(order[0], *owner, key="owner"), rating(order[1], *stranger)
        found = made(request(), *sorted((theirs, others), key=lambda each: each.id), **metrics)
        assert isinstance(found, Candidate)
        assert (found.kind, found.trusted, found.key_id) == (kind, True, "owner")
        assert "poison" not in found.answer


@pytest.mark.parametrize(
    ("owner", "metrics"),
    [
        (("stars", 3), {"stars": STARS}),
        (("undeclared", True), {"thumbs": PRIMARY}),
        (("asked_again", True), {}),
    ],
)
def test_where_who_is_trusted_says_nothing_others_are_heard(
    owner: tuple[str, Any], metrics: dict[str, Metric]
) -> None:
    """A rating between good and bad, or by a metric that does not judge, is no verdict."""
    found = made(request(), rating(1, *owner, key="owner"), rating(2, "demonstration", "wanted"), **metrics)
    assert isinstance(found, Candidate)
    assert (found.kind, found.answer, found.trusted) == ("demonstration", "wanted", False)


def test_ratings_by_metrics_that_the_route_does_not_declare_count_only_where_it_declares_none() -> None:
    """Who may rate can't void a row by a metric of their own; a signal that is declared changes nothing."""
    both = (rating(1, "thumbs", value=True), rating(2, "mine", value=False))
    found = made(request(), *both, thumbs=BOOL)
    assert isinstance(found, Candidate)
    assert found.kind == "liked"
    assert made(request(), both[1], thumbs=BOOL) == "no_rating"
    assert isinstance(made(request(), both[1], asked_again=BOOL), Candidate)
    contradicting = (rating(1, "a", value=True, key="owner"), rating(2, "b", value=False, key="owner"))
    assert made(request(), *contradicting, rating(3, "demonstration", "poison")) == "no_rating"


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
    better = {
        "id": "a", "request_id": "r1", "split": "train", "answer": "x", "trusted": 1, "kind": "liked",
        "unit": "u1", "key_id": "k1",
    }  # fmt: skip
    worse = {
        **better, "id": "b", "request_id": "r2", "answer": "y", "trusted": 0, "unit": "u2", "key_id": "k2"
    }  # fmt: skip
    found = compared("support", better, worse)
    assert found is not None
    assert (found["unit"], found["other_unit"], found["other_key_id"]) == ("u1", "u2", "k2")
    assert (found["kind"], found["rejected"], found["other_id"], found["trusted"]) == (
        "compared",
        "y",
        "r2",
        False,
    )
    assert compared("support", better, {**worse, "split": "held_out"}) is None
    assert compared("support", better, {**worse, "answer": "x"}) is None
