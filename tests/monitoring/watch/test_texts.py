"""What a text alone says of itself."""

import math

import pytest

from monitoring.watch import texts


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Order 1234: where is it?", "Order 9876: where is it?", True),
        ("Summarise:\n\n  the text", "summarise: the text", True),
        ("Summarise the text", "Translate the text", False),
    ],
)
def test_openings_tell_templates_apart(one: str, other: str, same: bool) -> None:
    """Numbers, spaces and case make no other template; words do."""
    assert (texts.opening(one) == texts.opening(other)) is same


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't help with that.", 1),
        ("As an AI language model, I do not have opinions.", 1),
        ("I cannot assist with this request.", 1),
        ("Ich kann dir dabei leider nicht helfen.", 1),
        ("The film is about a boxer who says he can't assist anyone.", 0),
        ("Sure: the train leaves at nine." + " Later on." * 40 + " I cannot help with that.", 0),
        ("", 0),
    ],
)
def test_refusals(answer: str, refused: float) -> None:
    """A refusal is told by how an answer begins."""
    assert texts.refusal(answer) == refused


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("the same four words " * 10, 1 - 4 / 37),
        ("every word of this quite long sentence is new and none of them comes twice here", 0.0),
        ("too short", math.nan),
    ],
)
def test_repetition(answer: str, share: float) -> None:
    """The share of runs of four words that were there before; short answers have none to tell."""
    assert texts.repetition(answer) == pytest.approx(share, nan_ok=True)


def test_structure() -> None:
    """Lines, signs and digits are counted; an empty text has no shares."""
    assert texts.lines("a\nb\nc") == 3
    assert texts.signs("{a: 1}") == pytest.approx(3 / 6)
    assert texts.digits("a12") == pytest.approx(2 / 3)
    assert math.isnan(texts.signs(""))
    assert math.isnan(texts.digits(""))


@pytest.mark.slow
def test_languages() -> None:
    """A language is told from texts that are long enough."""
    said = [
        "Where is my parcel, please? It should be here.",
        "Wo bleibt denn bloß mein Paket? Ich warte.",
        "ok",
    ]
    assert texts.languages(said) == ["en", "de", None]
