"""From feedback on recorded answers to rows."""

from dataclasses import replace

import pytest

from gateway.store.shadows import Pair
from training.data.evidence import Answered, Evidence, Value
from training.data.rows import DataError, Example, Kind, Preference, Rated, Row


def answered(number: int, said: str, prompt: str = "hi") -> Answered:
    """Return one recorded answer."""
    return Answered(f"r{number}", ({"role": "user", "content": prompt},), said, {"request": f"r{number}"})


def told(row: Row) -> tuple[object, ...]:
    """Return what a row says, without its prompt."""
    match row:
        case Example():
            return (row.completion,)
        case Rated():
            return (row.completion, row.liked)
        case Preference():
            return (row.chosen, row.rejected)
        case _:
            raise AssertionError(row)


ANSWERS = [answered(1, "good"), answered(2, "bad"), answered(3, "other", "ho"), answered(4, "")]


def evidence(said: dict[tuple[str, str], Value], **more: object) -> Evidence:
    """Return evidence about the answers above."""
    return Evidence("turnout:support", ANSWERS, said, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "more", "kind", "wanted"),
    [
        ({("r1", "demonstration"): " best "}, {}, "examples", [("best",)]),
        ({("r4", "demonstration"): "best"}, {}, "examples", [("best",)]),
        ({("r3", "thumbs"): False}, {}, "rated", [("other", False)]),
        ({("r3", "complaint"): True}, {"lower": frozenset({"complaint"})}, "rated", [("other", False)]),
        (
            {("r1", "stars"): 4.0, ("r3", "stars"): 2.0},
            {"metric": "stars", "at_least": 3.0},
            "rated",
            [("good", True), ("other", False)],
        ),
    ],
)
def test_the_kind_follows_from_the_evidence(
    said: dict[tuple[str, str], Value], more: dict[str, object], kind: Kind, wanted: list[tuple[object, ...]]
) -> None:
    """Demonstrations are examples, and ratings rated answers; rows are numbered."""
    found, rows = evidence(said, **more).rows(None)
    assert found == kind
    assert [told(row) for row in rows] == wanted
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))


THUMBS: dict[tuple[str, str], Value] = {
    ("r1", "thumbs"): True,
    ("r2", "thumbs"): False,
    ("r3", "thumbs"): True,
}


def test_answers_to_one_prompt_that_were_rated_differently_are_compared() -> None:
    """The liked one comes first; a prompt with one answer gives no pair."""
    _, rows = evidence(THUMBS).rows("preferences")
    assert [told(row) for row in rows] == [("good", "bad")]


def test_each_answer_is_in_one_pair_at_most() -> None:
    """The best stands with the worst, and equals are not compared."""
    some = [answered(number, f"a{number}") for number in range(5)]
    said: dict[tuple[str, str], Value] = {(f"r{number}", "stars"): float(number) for number in range(5)}
    _, rows = Evidence("x", some, said, metric="stars").rows("preferences")
    assert [told(row) for row in rows] == [("a4", "a0"), ("a3", "a1")]
    _, rows = Evidence("x", some, said, metric="stars", lower=frozenset({"stars"})).rows("preferences")
    assert [told(row) for row in rows] == [("a0", "a4"), ("a1", "a3")]


def test_a_demonstration_is_better_than_the_answer_it_corrects() -> None:
    """One that says the same corrects nothing."""
    said: dict[tuple[str, str], Value] = {("r1", "demonstration"): "best", ("r2", "demonstration"): "bad"}
    _, rows = evidence(said).rows("preferences")
    assert [told(row) for row in rows] == [("best", "good")]
    assert evidence(said).rows(None)[0] == "examples"


def test_a_rated_shadow_is_compared_with_its_client() -> None:
    """Both must be rated by the same metric."""
    pair = Pair(
        "r3", "s3", 0.0, "chat/completions", "support", "support@1", "support@2", "ho", "other", "shadowed",
        200, None, "stop", "stop", 1, 1, 1.0, 1.0,
    )  # fmt: skip
    said: dict[tuple[str, str], Value] = {("r3", "thumbs"): False, ("s3", "thumbs"): True}
    _, rows = evidence(said, pairs=[pair]).rows("preferences")
    assert [told(row) for row in rows] == [("shadowed", "other")]
    with pytest.raises(DataError, match="has no preferences"):
        evidence({("r3", "thumbs"): False}, pairs=[pair]).rows("preferences")


@pytest.mark.parametrize(
    ("said", "more", "kind", "message"),
    [
        ({}, {}, None, "nothing to train on: 4 requests"),
        ({("r1", "asked_again"): True}, {}, None, "nothing to train on"),
        (THUMBS, {}, "examples", "has no examples: 0 examples, 3 rated, 1 preferences"),
        (THUMBS, {}, None, "--kind rated or --kind preferences"),
        ({("r1", "demonstration"): "x", ("r3", "thumbs"): True}, {}, None, "--kind examples or --kind rated"),
        ({("r1", "thumbs"): True, ("r2", "spam"): True}, {}, "rated", "rated by spam, thumbs; say which"),
        ({("r1", "stars"): 3.0}, {"metric": "stars"}, "rated", "--at-least"),
        ({("r1", "mood"): "fine"}, {"metric": "mood"}, "rated", "is a text"),
    ],
)
def test_what_is_open_is_asked(
    said: dict[tuple[str, str], Value], more: dict[str, object], kind: Kind | None, message: str
) -> None:
    """Nothing is trained on that the user did not mean."""
    with pytest.raises(DataError, match=message):
        evidence(said, **more).rows(kind)


def test_a_preference_names_the_subjects_of_both_answers() -> None:
    """Who is forgotten is found by either; one subject's own two answers name it once."""
    both = [
        replace(answered(number, f"answer {number}"), columns={"unit": unit})
        for number, unit in ((1, "u1"), (2, "u2"), (3, "u3"), (4, "u3"))
    ]
    said = {(f"r{number}", "thumbs"): number in (1, 3) for number in range(1, 5)}
    apart = [
        replace(each, messages=({"role": "user", "content": each.columns["unit"]},)) for each in both[2:]
    ]
    _, rows = Evidence("turnout:support", [*both[:2], *apart], said).rows("preferences")
    assert [row.columns for row in rows if isinstance(row, Preference)] == [
        {"unit": "u1", "other_unit": "u2"},
        {"unit": "u3"},
    ]
